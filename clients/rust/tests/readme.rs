//! What the README shows works as it stands there.

use tokio::process::Command;
use world::World;

mod world;

#[tokio::test]
async fn the_program_does_the_whole_job() {
    let example = include_str!("../examples/rent.rs").split_once("\n\n").unwrap().1;
    assert!(include_str!("../README.md").contains(&format!("```rust,no_run\n{example}```")), "the README shows examples/rent.rs");
    let (world, folder) = (World::begin().await, tempfile::tempdir().unwrap());
    let cargo = ["run", "--quiet", "--locked", "--example", "rent", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")];
    let ran = Command::new(env!("CARGO")).args(cargo).current_dir(&folder).env("GPU_SHOPPER_URL", world.at("url")).output().await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8(ran.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("ssh -p ") && lines[0].contains("@127.0.0.1 -i "), "{said}");
    assert!(lines[1].starts_with("it has cost 0.") && lines[1].ends_with(" dollars"), "{said}");
    assert!(std::fs::read_to_string(folder.path().join(lines[0].rsplit(' ').next().unwrap())).unwrap().contains("PRIVATE KEY"));
    world.end().await;
}
