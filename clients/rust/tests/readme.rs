//! What the README shows works as it stands there.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use world::World;

mod world;

fn cargo_run(example: &str, world: &World, folder: &Path) -> Command {
    let cargo = ["run", "--quiet", "--locked", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--example", example];
    let mut command = Command::new(env!("CARGO"));
    command.args(cargo).current_dir(folder).env("GPU_SHOPPER_URL", world.at("url")).kill_on_drop(true);
    command
}

async fn said(example: &str, world: &World, folder: &Path) -> String {
    let ran = cargo_run(example, world, folder).output().await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::test]
async fn the_programs_do_what_they_say() {
    for example in [include_str!("../examples/rent.rs"), include_str!("../examples/watch.rs"), include_str!("../examples/follow.rs")] {
        let example = example.split_once("\n\n").unwrap().1;
        assert!(include_str!("../README.md").contains(&format!("```rust,no_run\n{example}```")), "the README shows this:\n{example}");
    }
    let (world, folder) = (World::begin().await, tempfile::tempdir().unwrap());
    // Begins with a snapshot, and is ended then.
    let mut following = Following::begin(&world, folder.path());
    let first = following.line().await;
    assert!(first.starts_with("0 open sessions, $0"), "{first}");
    while std::fs::read_to_string(folder.path().join("watch.token")).unwrap_or_default().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(following);

    let told = said("rent", &world, folder.path()).await;
    let rented: Vec<&str> = told.lines().collect();
    assert!(rented.len() == 2 && rented[0].starts_with("ssh -p ") && rented[0].contains("@127.0.0.1 -i "), "{told}");
    assert!(rented[1].starts_with("it has cost 0.") && rented[1].ends_with(" dollars"), "{told}");
    let key = rented[0].rsplit(' ').next().unwrap();
    assert!(std::fs::read_to_string(folder.path().join(key)).unwrap().contains("PRIVATE KEY"));

    // Goes on with what happened since, to the last.
    let mut following = Following::begin(&world, folder.path());
    let session_id = key.strip_suffix(".pem").unwrap();
    loop {
        let line = following.line().await;
        assert!(line.starts_with(&format!("{session_id} STATE_")), "{line}");
        if line.starts_with(&format!("{session_id} STATE_STOPPED: ")) {
            break;
        }
    }

    let told = said("watch", &world, folder.path()).await;
    let watched: Vec<&str> = told.lines().collect();
    assert!(watched[0].starts_with("STATE_PENDING: ") && watched.iter().any(|line| line.starts_with("STATE_STOPPED: ")), "{told}");
    assert!(watched.iter().any(|line| line.starts_with("0.") && line.contains(" dollars per hour, which is $0.")), "{told}");
    assert!(watched.last().unwrap().starts_with("it has cost 0."), "{told}");
    world.end().await;
}

/// The program that follows all sessions, and what it prints. Dropping this ends it.
struct Following {
    _program: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Following {
    fn begin(world: &World, folder: &Path) -> Self {
        let mut program = cargo_run("follow", world, folder).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(program.stdout.take().unwrap()).lines();
        Self { _program: program, lines }
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().expect("it goes on")
    }
}
