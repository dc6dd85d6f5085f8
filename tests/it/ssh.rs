//! Logging in for real, on loopback and in real time: our probe against our simulated machines, against peers that are
//! no SSH servers, and both against OpenSSH where it is installed.

use gpu_shopper::domain::idle::Activity;
use gpu_shopper::domain::ids::SessionId;
use gpu_shopper::domain::instance::SshEndpoint;
use gpu_shopper::domain::time::Time;
use gpu_shopper::ports::{ApiTarget, GpuAnswer, ProbeFailureKind, ProbeTarget, SshProbe as _};
use gpu_shopper::sim::Workload;
use gpu_shopper::sim::ssh_host::{ExecReply, GpuState, Machine, SshHost, believable_machine, believable_nvidia_smi, machine_at_work, wire_bytes};
use gpu_shopper::ssh::keys::{self, Secret};
use gpu_shopper::ssh::{Deadlines, ThrusshProbe, login_and_exec, nvidia_smi};
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(60);
const SEED: [u8; 32] = [42; 32];

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn secret() -> Secret {
    Secret::from_bytes([1; 32])
}

fn session() -> SessionId {
    SessionId::new(Time::from_millis(1_700_000_000_000), 77)
}

/// Patient where success is expected: debug builds on small machines are slow.
fn probe() -> ThrusshProbe {
    ThrusshProbe::with_deadlines(secret(), Deadlines { tcp: PATIENCE, login: PATIENCE, command: PATIENCE })
}

fn endpoint(addr: SocketAddr) -> SshEndpoint {
    SshEndpoint { host: addr.ip().to_string(), port: addr.port(), user: "root".to_owned(), proxied: false }
}

fn target(addr: SocketAddr) -> ProbeTarget {
    ProbeTarget { endpoint: endpoint(addr), session: session(), known_host_key: None, ask_gpu: true, allow_private: true }
}

fn gpus() -> Vec<(String, u32)> {
    vec![("NVIDIA GeForce RTX 4090".to_owned(), 24_564); 2]
}

fn healthy(command: &str) -> ExecReply {
    believable_nvidia_smi(command, &gpus(), "550.54.15", "12.4")
}

type Installed = Arc<Mutex<BTreeSet<Vec<u8>>>>;

fn install(installed: &Installed, line: &str) {
    installed.lock().unwrap().insert(wire_bytes(line).unwrap());
}

async fn machine(exec: impl Fn(&str) -> ExecReply + Send + Sync + 'static) -> (SshHost, Installed) {
    let installed = Installed::default();
    let keys = Arc::clone(&installed);
    let machine = Machine { authorized: Box::new(move |key| keys.lock().unwrap().contains(key)), exec: Box::new(exec) };
    (SshHost::start(anywhere(), SEED, Arc::new(machine)).await.unwrap(), installed)
}

/// A machine that the verifier key opens.
async fn open_machine(exec: impl Fn(&str) -> ExecReply + Send + Sync + 'static) -> SshHost {
    let (host, installed) = machine(exec).await;
    install(&installed, &probe().verifier_key(session()));
    host
}

/// A peer that does with every connection what it is told.
async fn peer<F: Future<Output = ()> + Send + 'static>(act: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(anywhere()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(act(stream));
        }
    });
    addr
}

async fn kind_of_failure(probe: &ThrusshProbe, target: &ProbeTarget) -> ProbeFailureKind {
    let failure = probe.probe(target).await.unwrap_err();
    assert!(!failure.text.is_empty() && failure.text.chars().count() <= 301, "{failure:?}");
    failure.kind
}

#[tokio::test]
async fn a_login_tells_host_key_and_gpus() {
    let host = open_machine(healthy).await;
    let report = probe().probe(&target(host.addr())).await.unwrap();
    assert_eq!(report.host_key, host.host_key());
    let Some(GpuAnswer::Report(gpu)) = report.gpu else { panic!("{report:?}") };
    assert_eq!(gpu.gpus, gpus());
    assert_eq!((gpu.driver.as_deref(), gpu.cuda), (Some("550.54.15"), Some(1204)));

    let report = probe().probe(&ProbeTarget { ask_gpu: false, ..target(host.addr()) }).await.unwrap();
    assert_eq!(report.gpu, None);
}

#[tokio::test]
async fn a_key_counts_from_the_next_login_on() {
    let (host, installed) = machine(healthy).await;
    let probe = probe();
    assert_eq!(kind_of_failure(&probe, &target(host.addr())).await, ProbeFailureKind::AuthRejected);
    install(&installed, &probe.verifier_key(session()));
    assert!(probe.probe(&target(host.addr())).await.is_ok());
    installed.lock().unwrap().clear();
    assert_eq!(kind_of_failure(&probe, &target(host.addr())).await, ProbeFailureKind::AuthRejected);
}

#[tokio::test]
async fn another_host_key_than_before_is_an_alarm() {
    let host = open_machine(healthy).await;
    let same = ProbeTarget { known_host_key: Some(host.host_key().to_owned()), ..target(host.addr()) };
    assert!(probe().probe(&same).await.is_ok());
    let other = keys::generate_consumer_key([8; 32], "").public_line();
    let changed = ProbeTarget { known_host_key: Some(other), ..target(host.addr()) };
    let failure = probe().probe(&changed).await.unwrap_err();
    assert_eq!(failure.kind, ProbeFailureKind::HostKeyChanged);
    assert!(failure.text.contains(&keys::fingerprint(host.host_key()).unwrap()), "{failure:?}");
    let unreadable = ProbeTarget { known_host_key: Some("rubbish".to_owned()), ..target(host.addr()) };
    assert_eq!(kind_of_failure(&probe(), &unreadable).await, ProbeFailureKind::HostKeyChanged);
}

#[tokio::test]
async fn a_proxy_leads_to_the_same_machine() {
    let host = open_machine(healthy).await;
    let proxy = host.start_also(anywhere()).await.unwrap();
    assert_ne!(proxy, host.addr());
    assert_eq!(probe().probe(&target(proxy)).await.unwrap(), probe().probe(&target(host.addr())).await.unwrap());
}

#[tokio::test]
async fn closed_ports_refuse_and_unknown_names_are_unreachable() {
    let closed = {
        let listener = TcpListener::bind(anywhere()).await.unwrap();
        listener.local_addr().unwrap()
    };
    assert_eq!(kind_of_failure(&probe(), &target(closed)).await, ProbeFailureKind::Refused);
    let mut nowhere = target(closed);
    nowhere.endpoint.host = "nowhere.invalid".to_owned();
    assert_eq!(kind_of_failure(&probe(), &nowhere).await, ProbeFailureKind::Unreachable);
    nowhere.endpoint.host = String::new();
    assert!(probe().probe(&nowhere).await.is_err());
}

#[tokio::test]
async fn private_addresses_are_not_even_knocked_at() {
    let listener = TcpListener::bind(anywhere()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // As names or numbers, in every way of writing that a resolver understands: what counts is where it leads.
    let odd = [
        "0",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.1",
        "127.0.0.1.",
        "localhost.",
        "LOCALHOST",
        "::ffff:7f00:1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
    ];
    for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1", "[::1]", "0.0.0.0", "10.0.0.1", "169.254.169.254", "fd00::1", "[fe80::1]"]
        .into_iter()
        .chain(odd)
    {
        let mut forbidden = ProbeTarget { allow_private: false, ..target(listener.local_addr().unwrap()) };
        forbidden.endpoint = SshEndpoint { host: host.to_owned(), port, user: "root".to_owned(), proxied: false };
        let kind = kind_of_failure(&probe(), &forbidden).await;
        // What no resolver understands is as good.
        assert!(kind == ProbeFailureKind::AddressNotAllowed || (odd.contains(&host) && kind == ProbeFailureKind::Unreachable), "{host}: {kind:?}");
        let api = ApiTarget { host: host.to_owned(), port, path: "/health", allow_private: false };
        let kind = probe().api(&api).await.unwrap_err().kind;
        assert!(kind == ProbeFailureKind::AddressNotAllowed || (odd.contains(&host) && kind == ProbeFailureKind::Unreachable), "{host}: {kind:?}");
    }
    let pem = keys::generate_consumer_key([8; 32], "").private_pem().unwrap();
    let failure = login_and_exec(&endpoint(listener.local_addr().unwrap()), &pem, "true", false).await.unwrap_err();
    assert_eq!(failure.kind, ProbeFailureKind::AddressNotAllowed);
    assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err(), "nobody came");
}

/// What an SSH server sends first when none of its key exchange algorithms are ours.
fn foreign_key_exchange() -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend_from_slice(&[7; 16]);
    for list in ["diffie-hellman-group1-sha1", "ssh-ed25519", "aes128-ctr", "aes128-ctr", "hmac-sha1", "hmac-sha1", "none", "none", "", ""] {
        payload.extend_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(list.as_bytes());
    }
    payload.extend_from_slice(&[0; 5]);
    let padding = 8 - (payload.len() + 5) % 8 + 8;
    let mut packet = u32::try_from(payload.len() + 1 + padding).unwrap().to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap());
    packet.extend_from_slice(&payload);
    packet.extend(std::iter::repeat_n(0, padding));
    packet
}

#[tokio::test]
async fn algorithms_that_do_not_meet_are_no_authentication_failure() {
    let addr = peer(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-Ancient\r\n").await;
        let _ = stream.write_all(&foreign_key_exchange()).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_eq!(kind_of_failure(&probe(), &target(addr)).await, ProbeFailureKind::AlgorithmMismatch);
}

#[tokio::test]
async fn what_does_not_speak_ssh_is_broken() {
    let http = peer(|mut stream| async move {
        let _ = stream.read(&mut [0; 64]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    })
    .await;
    let garbage = peer(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-Odd\r\n").await;
        let _ = stream.write_all(&[0xff; 300]).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let empty_packet = peer(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-Odd\r\n\0\0\0\x02\x01\0\0\0\0\0\0\0").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let hangs_up = peer(|stream| async move { drop(stream) }).await;
    let hangs_up_later = peer(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-Short\r\n").await;
        let _ = stream.read(&mut [0; 16]).await;
    })
    .await;
    for (what, addr) in
        [("http", http), ("garbage", garbage), ("empty packet", empty_packet), ("hangs up", hangs_up), ("hangs up later", hangs_up_later)]
    {
        assert_eq!(kind_of_failure(&probe(), &target(addr)).await, ProbeFailureKind::Broken, "{what}");
    }
}

/// Client sockets of this machine that are held open towards a port.
fn open_towards(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|cells| cells[2].ends_with(&remote) && cells[9] != "0").count()
}

#[tokio::test]
async fn timeouts_leave_neither_tasks_nor_sockets_behind() {
    let held = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    for greeting in ["", "SSH-2.0-Silent\r\n", "a preliminary line\r\n"] {
        let held = Arc::clone(&held);
        let listener = TcpListener::bind(anywhere()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let holding = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(greeting.as_bytes()).await;
                held.lock().await.push(stream);
            }
        });
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let short = Deadlines { tcp: PATIENCE, login: Duration::from_millis(200), command: PATIENCE };
        let short = ThrusshProbe::with_deadlines(secret(), short);
        let target = target(addr);
        let kinds = futures::future::join_all((0..50).map(|_| kind_of_failure(&short, &target))).await;
        assert_eq!(kinds, [ProbeFailureKind::Timeout; 50]);
        // A future dropped half-way is no different.
        for _ in 0..10 {
            assert!(tokio::time::timeout(Duration::from_millis(30), probe().probe(&target)).await.is_err());
        }
        let gone = async {
            while open_towards(addr.port()) > 0 || tasks() > before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let all_gone = tokio::time::timeout(PATIENCE, gone).await;
        assert!(all_gone.is_ok(), "{} sockets and {} tasks are left after {greeting:?}", open_towards(addr.port()), tasks() - before);
        holding.abort();
    }
    assert!(held.lock().await.len() >= 150, "the peer still holds its ends");
}

#[tokio::test]
async fn sick_gpus_are_broken_and_silent_ones_silent() {
    let answer = |exec: fn(&str) -> ExecReply, deadlines: Deadlines| async move {
        let host = open_machine(exec).await;
        ThrusshProbe::with_deadlines(secret(), deadlines).probe(&target(host.addr())).await.unwrap().gpu.unwrap()
    };
    let patient = Deadlines { tcp: PATIENCE, login: PATIENCE, command: PATIENCE };
    let GpuAnswer::Broken(words) = answer(|command| believable_machine(command, &GpuState::Absent), patient).await else { panic!() };
    assert!(words.contains("no nvidia-smi"), "{words}");
    let failing = |command: &str| {
        believable_machine(command, &GpuState::Failing { words: "Failed to initialize NVML: Driver/library version mismatch", exit: 18 })
    };
    let GpuAnswer::Broken(words) = answer(failing, patient).await else { panic!() };
    assert!(words.contains("version mismatch"), "{words}");
    let GpuAnswer::Silent(_) =
        answer(|_| ExecReply { hang: true, ..ExecReply::default() }, Deadlines { command: Duration::from_millis(200), ..patient }).await
    else {
        panic!()
    };
    let GpuAnswer::Silent(_) = answer(|_| ExecReply::failure("Please login as the user \"user\".\n", 142), patient).await else { panic!() };
    let GpuAnswer::Silent(_) = answer(|_| ExecReply::output("x".repeat(1_000_000)), patient).await else { panic!() };
}

#[tokio::test]
async fn commands_give_output_errors_and_exit_status() {
    let host = open_machine(|command| match command {
        "both" => ExecReply { stdout: "out\n".to_owned(), stderr: "err\n".to_owned(), exit: 7, delay: Duration::from_millis(5), hang: false },
        "much" => ExecReply::output("0123456789abcdef".repeat(65_536)),
        other => healthy(other),
    })
    .await;
    let both = probe().exec(&target(host.addr()), "both").await.unwrap();
    assert_eq!((both.stdout.as_str(), both.stderr.as_str(), both.exit), ("out\n", "err\n", Some(7)));
    let much = probe().exec(&target(host.addr()), "much").await.unwrap();
    assert_eq!((much.stdout.len(), much.exit), (1024 * 1024, Some(0)), "1 MiB passes whole");
}

#[tokio::test]
async fn a_consumer_logs_in_with_the_key_it_was_given() {
    let (host, installed) = machine(healthy).await;
    let key = keys::generate_consumer_key([5; 32], "consumer");
    install(&installed, &key.public_line());
    let pem = key.private_pem().unwrap();
    let result = login_and_exec(&endpoint(host.addr()), &pem, "nvidia-smi -L", true).await.unwrap();
    assert_eq!(result.exit, Some(0));
    assert_eq!(nvidia_smi::parse_list(result.stdout.as_bytes()).len(), 2, "{}", result.stdout);
    let rubbish = SecretString::from("rubbish");
    assert_eq!(login_and_exec(&endpoint(host.addr()), &rubbish, "true", true).await.unwrap_err().kind, ProbeFailureKind::AuthRejected);
}

#[tokio::test]
async fn a_host_that_stops_or_is_dropped_leaves_nothing() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for drops in [false, true] {
        let before = tasks();
        let host = open_machine(|_| ExecReply { hang: true, ..ExecReply::default() }).await;
        let addr = host.addr();
        let also = host.start_also(anywhere()).await.unwrap();
        let (probe, target) = (probe(), target(addr));
        let mut asking = Box::pin(probe.exec(&target, "anything"));
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut asking).await.is_err(), "it hangs");
        if drops {
            drop(host);
        } else {
            host.stop().await;
            host.stop().await;
        }
        // The command ends with the connection, at whatever point it was.
        let ended = tokio::time::timeout(PATIENCE, asking).await.unwrap();
        assert!(ended.as_ref().map_or(true, |result| result.exit.is_none()), "{ended:?}");
        let gone = async {
            while tasks() > before || TcpStream::connect(addr).await.is_ok() || TcpStream::connect(also).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }
}

// ---- OpenSSH -------------------------------------------------------------------------------------------------------

fn installed(program: &str) -> Option<PathBuf> {
    let found = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].iter().map(|folder| Path::new(folder).join(program));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        println!("not run: there is no {program} on this machine");
    }
    found
}

/// What the ssh program needs to log in to one of our machines.
struct OpenSsh {
    program: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
}

impl OpenSsh {
    /// A login as root, with the host key already known and nothing asked.
    fn new(program: PathBuf, host: &SshHost, key: &keys::LoginKey) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self { program, port: host.addr().port(), folder };
        write_private(&this.path("id"), key.private_pem().unwrap().expose_secret());
        std::fs::write(this.path("known_hosts"), keys::known_hosts_line("127.0.0.1", this.port, host.host_key()) + "\n").unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut ssh = Command::new(&self.program)
            .args(["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.path("known_hosts").display()))
            .arg("-i")
            .arg(self.path("id"))
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = ssh.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        tokio::time::timeout(PATIENCE, ssh.wait_with_output()).await.unwrap().unwrap()
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn openssh_logs_in_to_our_machines() {
    let Some(program) = installed("ssh") else { return };
    let (host, keys_there) = machine(|command| match command {
        "both" => ExecReply { stdout: "out\n".to_owned(), stderr: "err\n".to_owned(), exit: 7, ..ExecReply::default() },
        other => healthy(other),
    })
    .await;
    let key = keys::generate_consumer_key([6; 32], "consumer");
    install(&keys_there, &key.public_line());
    let ssh = OpenSsh::new(program, &host, &key);

    let list = ssh.run(&["root@127.0.0.1", "nvidia-smi -L"], "").await;
    assert!(list.status.success(), "{}", text(&list.stderr));
    assert_eq!(nvidia_smi::parse_list(&list.stdout).len(), 2);
    let both = ssh.run(&["root@127.0.0.1", "both"], "").await;
    assert_eq!((both.status.code(), text(&both.stdout).as_str(), text(&both.stderr).as_str()), (Some(7), "out\n", "err\n"));
    let unknown = ssh.run(&["root@127.0.0.1", "frobnicate"], "").await;
    assert_eq!(unknown.status.code(), Some(127));
    assert!(text(&unknown.stderr).contains("command not found"));

    let shell = ssh.run(&["-T", "root@127.0.0.1"], "hostname\n\nfalse\necho $?-$USER\nexit 3\necho never\n").await;
    assert_eq!((shell.status.code(), text(&shell.stdout).as_str()), (Some(3), "machine\n0-root\n"), "{}", text(&shell.stderr));
    let unfinished = ssh.run(&["-T", "root@127.0.0.1"], "false\nuname").await;
    assert_eq!((unfinished.status.code(), text(&unfinished.stdout).as_str()), (Some(0), "Linux\n"), "the last line needs no end");
    let terminal = ssh.run(&["-tt", "root@127.0.0.1"], "hostname\nexit 4\n").await;
    assert_eq!(terminal.status.code(), Some(4));
    assert!(text(&terminal.stdout).contains("machine\r\n"), "{:?}", text(&terminal.stdout));

    let forward = ssh.run(&["-W", "127.0.0.1:1", "root@127.0.0.1"], "").await;
    assert!(forward.stdout.is_empty(), "forwarding ends at once and gives nothing");

    // Neither another key nor another host key gets through.
    write_private(&ssh.path("id"), keys::generate_consumer_key([7; 32], "").private_pem().unwrap().expose_secret());
    let refused = ssh.run(&["root@127.0.0.1", "true"], "").await;
    assert_eq!(refused.status.code(), Some(255));
    assert!(text(&refused.stderr).contains("Permission denied"), "{}", text(&refused.stderr));
    write_private(&ssh.path("id"), key.private_pem().unwrap().expose_secret());
    let other = keys::generate_consumer_key([9; 32], "").public_line();
    std::fs::write(ssh.path("known_hosts"), keys::known_hosts_line("127.0.0.1", ssh.port, &other) + "\n").unwrap();
    assert_eq!(ssh.run(&["root@127.0.0.1", "true"], "").await.status.code(), Some(255));
}

#[tokio::test]
async fn known_hosts_lines_and_fingerprints_are_openssh_s() {
    let (Some(keyscan), Some(keygen)) = (installed("ssh-keyscan"), installed("ssh-keygen")) else { return };
    let host = open_machine(healthy).await;
    let port = host.addr().port();
    let scan = Command::new(keyscan).args(["-t", "ed25519", "-p", &port.to_string(), "127.0.0.1"]).output().await.unwrap();
    let lines = text(&scan.stdout);
    let line = lines.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
    assert_eq!(line, keys::known_hosts_line("127.0.0.1", port, host.host_key()));

    let folder = tempfile::tempdir().unwrap();
    for kind in [["ed25519", "256"], ["rsa", "2048"], ["ecdsa", "256"], ["ecdsa", "384"], ["ecdsa", "521"]] {
        let file = folder.path().join(kind.concat());
        let made = Command::new(&keygen).args(["-q", "-t", kind[0], "-b", kind[1], "-N", "", "-C", "a b@c", "-f"]).arg(&file).status().await.unwrap();
        assert!(made.success());
        let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
        let parsed = keys::parse_public_key(&public).unwrap();
        assert_eq!(parsed.line, public.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
        let shown = Command::new(&keygen).arg("-lf").arg(&file).output().await.unwrap();
        assert!(text(&shown.stdout).contains(&parsed.fingerprint), "{}", text(&shown.stdout));
        let private = std::fs::read_to_string(&file).unwrap();
        assert!(keys::parse_public_key(&private).unwrap_err().to_string().contains("private key"));
    }
}

/// A real sshd on a port of its own, with one authorized key and an nvidia-smi that prints what it is told to.
struct Sshd {
    child: Child,
    addr: SocketAddr,
    user: String,
    _folder: tempfile::TempDir,
}

impl Sshd {
    async fn start(program: &Path, keygen: &Path, authorized: &str, smi: &str, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let kind = if settings.contains("#rsa-host-key") { "rsa" } else { "ed25519" };
        let made = Command::new(keygen).args(["-q", "-t", kind, "-N", "", "-f"]).arg(path("host_key")).status().await.unwrap();
        assert!(made.success());
        std::fs::write(path("authorized_keys"), format!("{authorized}\n")).unwrap();
        std::fs::create_dir(path("bin")).unwrap();
        write_private(&path("bin/nvidia-smi"), &format!("#!/bin/sh\n{smi}\n"));
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path("bin/nvidia-smi"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        // sshd wants this folder; where it may not be made, sshd is not run as root and does without.
        let _ = std::fs::create_dir_all("/run/sshd");
        let user = text(&Command::new("id").arg("-un").output().await.unwrap().stdout).trim().to_owned();
        for _ in 0..20 {
            let port = TcpListener::bind(anywhere()).await.unwrap().local_addr().unwrap().port();
            let at = folder.path().display();
            std::fs::write(
                path("config"),
                format!(
                    "ListenAddress 127.0.0.1:{port}\nHostKey {at}/host_key\nAuthorizedKeysFile {at}/authorized_keys\nPidFile none\n\
                     UsePAM no\nStrictModes no\nPermitRootLogin yes\nSetEnv PATH={at}/bin:/usr/bin:/bin\n{settings}\n"
                ),
            )
            .unwrap();
            let mut child =
                Command::new(program).args(["-D", "-e", "-f"]).arg(path("config")).kill_on_drop(true).stderr(Stdio::null()).spawn().unwrap();
            let addr: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
            for _ in 0..600 {
                if TcpStream::connect(addr).await.is_ok() {
                    return Self { child, addr, user, _folder: folder };
                }
                if child.try_wait().unwrap().is_some() {
                    break; // somebody else took the port
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        panic!("sshd does not start");
    }

    fn target(&self) -> ProbeTarget {
        let mut target = target(self.addr);
        target.endpoint.user = self.user.clone();
        target
    }

    async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Answers like the real program when asked by our command.
const SMI: &str = r#"case "$*" in
  *--query-gpu=name,memory.total,driver_version*) echo "NVIDIA H100 80GB HBM3, 81559, 570.86.15";;
  *--query-gpu=utilization.gpu,memory.used*) echo "3, 17";;
  *--query-compute-apps=pid*) ;;
  -L) echo "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)";;
  "") echo "| NVIDIA-SMI 570.86.15   Driver Version: 570.86.15   CUDA Version: 12.8 |";;
  *) exit 2;;
esac"#;

#[tokio::test]
async fn our_probe_logs_in_to_openssh() {
    let (Some(program), Some(keygen)) = (installed("sshd"), installed("ssh-keygen")) else { return };
    let sshd = Sshd::start(&program, &keygen, &probe().verifier_key(session()), SMI, "").await;
    let report = probe().probe(&sshd.target()).await.unwrap();
    assert!(report.host_key.starts_with("ssh-ed25519 "), "{report:?}");
    let Some(GpuAnswer::Report(gpu)) = report.gpu else { panic!("{report:?}") };
    assert_eq!(gpu.gpus, [("NVIDIA H100 80GB HBM3".to_owned(), 81_559)]);
    assert_eq!((gpu.driver.as_deref(), gpu.cuda), (Some("570.86.15"), Some(1208)));
    let pinned = ProbeTarget { known_host_key: Some(report.host_key), ..sshd.target() };
    assert!(probe().probe(&pinned).await.is_ok());
    let exec = probe().exec(&sshd.target(), "echo out; echo err >&2; exit 7").await.unwrap();
    assert_eq!((exec.stdout.as_str(), exec.stderr.as_str(), exec.exit), ("out\n", "err\n", Some(7)));
    let killed = probe().exec(&sshd.target(), "kill -9 $$").await.unwrap();
    assert_eq!(killed.exit, None, "a signal is no exit status");
    let endless = probe().exec(&sshd.target(), "yes").await.unwrap();
    assert_eq!((endless.stdout.len(), endless.exit), (1024 * 1024, None), "endless output is cut");
    let other = ProbeTarget { session: SessionId::new(Time::from_millis(5), 5), ..sshd.target() };
    assert_eq!(kind_of_failure(&probe(), &other).await, ProbeFailureKind::AuthRejected);
    let mut nobody = sshd.target();
    nobody.endpoint.user = "no-such-user".to_owned();
    assert_eq!(kind_of_failure(&probe(), &nobody).await, ProbeFailureKind::AuthRejected);
    sshd.stop().await;
}

/// A look until the number of connections is the expected one: processes come and go beside the test.
async fn connections_become(sshd: &Sshd, expected: u32) {
    let mut last = None;
    for _ in 0..200 {
        let measured = probe().measure(&sshd.target()).await.unwrap().activity;
        assert_eq!((measured.gpu_percent, measured.gpu_memory_mib, measured.gpu_processes), (Some(3), Some(17), Some(0)));
        last = measured.connections;
        if last == Some(expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{last:?} connections instead of {expected}");
}

#[tokio::test]
async fn openssh_logins_and_forwards_of_others_are_use_ours_and_knocking_are_not() {
    let (Some(program), Some(keygen), Some(client)) = (installed("sshd"), installed("ssh-keygen"), installed("ssh")) else { return };
    let user = keys::generate_consumer_key([5; 32], "consumer");
    let both = format!("{}\n{}", probe().verifier_key(session()), user.public_line());
    let sshd = Sshd::start(&program, &keygen, &both, SMI, "").await;
    connections_become(&sshd, 0).await;
    // Whoever only knocks has not logged in, whether it says something or not.
    let silent = TcpStream::connect(sshd.addr).await.unwrap();
    let mut speaking = TcpStream::connect(sshd.addr).await.unwrap();
    speaking.write_all(b"SSH-2.0-knock\r\n").await.unwrap();
    connections_become(&sshd, 0).await;
    drop((silent, speaking));
    // Neither have our own logins that go on at the same time.
    let target = sshd.target();
    let shared = probe();
    let slow = shared.exec(&target, "sleep 1");
    let (slow, measured) = tokio::join!(slow, shared.measure(&target));
    assert_eq!((slow.unwrap().exit, measured.unwrap().activity.connections), (Some(0), Some(0)));
    // A forward alone, without a shell.
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    write_private(&key, user.private_pem().unwrap().expose_secret());
    let free = TcpListener::bind(anywhere()).await.unwrap().local_addr().unwrap();
    let mut forward = Command::new(&client)
        .args(["-N", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-F", "/dev/null", "-i"])
        .arg(&key)
        .args(["-p", &sshd.addr.port().to_string(), "-L", &format!("{free}:127.0.0.1:9"), &format!("{}@127.0.0.1", sshd.user)])
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    connections_become(&sshd, 1).await;
    forward.kill().await.unwrap();
    connections_become(&sshd, 0).await;
    sshd.stop().await;
}

#[tokio::test]
async fn our_machines_tell_their_use_and_sick_ones_that_it_can_not_be_told() {
    let gpus = gpus();
    for (workload, expected) in [
        (Workload::Idle, (Some(0), Some(4), Some(0), Some(0))),
        (Workload::Busy, (Some(97), Some(6_002), Some(1), Some(0))),
        (Workload::LoggedIn, (Some(0), Some(4), Some(0), Some(1))),
        (Workload::Hidden, (Some(0), Some(4), Some(0), None)),
    ] {
        let gpus = gpus.clone();
        let host = open_machine(move |command| {
            machine_at_work(command, &GpuState::Healthy { gpus: &gpus, driver: "550.54.15", cuda: "12.4", machine: 1 }, workload)
        })
        .await;
        let found = probe().measure(&target(host.addr())).await.unwrap();
        assert_eq!(found.host_key, host.host_key());
        let found = found.activity;
        assert_eq!((found.gpu_percent, found.gpu_memory_mib, found.gpu_processes, found.connections), expected, "{workload:?}");
    }
    let bare = open_machine(|command| believable_machine(command, &GpuState::Absent)).await;
    let found = probe().measure(&target(bare.addr())).await.unwrap().activity;
    assert_eq!((found.gpu_percent, found.gpu_memory_mib, found.gpu_processes, found.connections), (None, None, None, Some(0)));
    let hanging = open_machine(|_| ExecReply { hang: true, ..ExecReply::default() }).await;
    let hasty = ThrusshProbe::with_deadlines(secret(), Deadlines { tcp: PATIENCE, login: PATIENCE, command: Duration::from_millis(50) });
    assert_eq!(hasty.measure(&target(hanging.addr())).await.unwrap().activity, Activity::default(), "a command that hangs tells nothing");
}

#[tokio::test]
async fn a_consumer_key_opens_openssh_too() {
    let (Some(program), Some(keygen)) = (installed("sshd"), installed("ssh-keygen")) else { return };
    let key = keys::generate_consumer_key([5; 32], "consumer");
    let sshd = Sshd::start(&program, &keygen, &key.public_line(), SMI, "").await;
    let result = login_and_exec(&sshd.target().endpoint, &key.private_pem().unwrap(), "nvidia-smi -L", true).await.unwrap();
    assert_eq!((result.stdout.as_str(), result.exit), ("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n", Some(0)));
    sshd.stop().await;
}

#[tokio::test]
async fn openssh_s_ways_to_fail_have_the_right_names() {
    let (Some(program), Some(keygen)) = (installed("sshd"), installed("ssh-keygen")) else { return };
    let key = probe().verifier_key(session());
    for (settings, kind) in [
        ("KexAlgorithms diffie-hellman-group14-sha256", ProbeFailureKind::AlgorithmMismatch),
        ("PubkeyAuthentication no\nPasswordAuthentication yes", ProbeFailureKind::AuthRejected),
        ("PubkeyAcceptedAlgorithms rsa-sha2-512", ProbeFailureKind::AuthRejected),
        ("PubkeyAcceptedAlgorithms rsa-sha2-512\nMaxAuthTries 1", ProbeFailureKind::Broken),
        ("AuthenticationMethods publickey,password\nPasswordAuthentication yes", ProbeFailureKind::AuthRejected),
    ] {
        let sshd = Sshd::start(&program, &keygen, &key, SMI, settings).await;
        assert_eq!(kind_of_failure(&probe(), &sshd.target()).await, kind, "{settings}");
        sshd.stop().await;
    }
    // What only the feature `openssl` can speak: named as what it is without it, and spoken with it.
    for settings in ["Ciphers aes256-gcm@openssh.com", "#rsa-host-key"] {
        let sshd = Sshd::start(&program, &keygen, &key, SMI, settings).await;
        if cfg!(feature = "openssl") {
            let report = probe().probe(&sshd.target()).await.unwrap_or_else(|failure| panic!("{settings}: {failure:?}"));
            assert!(matches!(report.gpu, Some(GpuAnswer::Report(_))), "{settings}: {report:?}");
        } else {
            assert_eq!(kind_of_failure(&probe(), &sshd.target()).await, ProbeFailureKind::AlgorithmMismatch, "{settings}");
        }
        sshd.stop().await;
    }
    let restricted = format!("command=\"echo 'Please login as another user'; exit 142\" {key}");
    let sshd = Sshd::start(&program, &keygen, &restricted, SMI, "").await;
    let report = probe().probe(&sshd.target()).await.unwrap();
    assert!(matches!(report.gpu, Some(GpuAnswer::Silent(_))), "{report:?}");
    sshd.stop().await;
    let absent = Sshd::start(&program, &keygen, &key, "exit 127", "").await;
    let report = probe().probe(&absent.target()).await.unwrap();
    assert!(matches!(report.gpu, Some(GpuAnswer::Broken(_))), "{report:?}");
    absent.stop().await;
}
