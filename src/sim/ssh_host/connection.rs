//! One connection to a simulated machine: logins, commands, and a small shell for people.
//!
//! thrussh hands its handlers the whole session, so a handler that waits holds up the connection. Commands therefore
//! run in tasks that answer through the session's handle; they end with their channel, at the latest with their
//! connection.

use super::{ExecReply, Machine};
use std::collections::HashMap;
use std::sync::Arc;
use thrussh::server::{Auth, Handle, Handler, Session};
use thrussh::{ChannelId, CryptoVec, Pty};
use thrussh_keys::PublicKeyBase64 as _;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// The most channels of one connection at a time.
const MOST_CHANNELS: usize = 16;

/// The most that a command says on either stream, bytes; thrussh loses what is above a client's window of 2 MiB.
const MOST_OUTPUT: usize = 1024 * 1024;

/// The longest line typed into a shell, bytes.
const LONGEST_LINE: usize = 16 * 1024;

/// How many typed lines may wait while a command runs.
const WAITING_LINES: usize = 256;

/// Ctrl-C and Ctrl-D, as terminals in raw mode send them.
const INTERRUPT: u8 = 3;
const END_OF_INPUT: u8 = 4;

/// What is known of an open session channel.
#[derive(Default)]
struct Channel {
    terminal: bool,
    task: Option<AbortHandle>,
    shell: Option<Typing>,
}

/// The input side of a shell: the line being typed, and where whole lines go. Dropping it ends the shell.
struct Typing {
    line: Vec<u8>,
    lines: mpsc::Sender<String>,
}

/// A connection's handler.
pub(super) struct Connection {
    machine: Arc<Machine>,
    channels: HashMap<ChannelId, Channel>,
    tasks: JoinSet<()>,
}

impl Connection {
    pub(super) fn new(machine: Arc<Machine>) -> Self {
        Self { machine, channels: HashMap::new(), tasks: JoinSet::new() }
    }

    /// The channel, when it is open and nothing runs in it yet.
    fn idle_channel(&mut self, id: ChannelId) -> Option<&mut Channel> {
        while self.tasks.try_join_next().is_some() {}
        self.channels.get_mut(&id).filter(|channel| channel.task.is_none())
    }

    /// What is typed into a shell: lines go to its task; a terminal also gets to see what is typed.
    fn typed(&mut self, id: ChannelId, data: &[u8], session: &mut Session) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let mut echo = Vec::new();
        for &byte in data {
            let Some(shell) = &mut channel.shell else { break };
            let mut goes_on = true;
            match byte {
                b'\n' | b'\r' => {
                    echo.extend_from_slice(b"\r\n");
                    let line = String::from_utf8_lossy(&std::mem::take(&mut shell.line)).into_owned();
                    goes_on = shell.lines.try_send(line).is_ok();
                }
                END_OF_INPUT if channel.terminal => goes_on = !shell.line.is_empty(),
                INTERRUPT if channel.terminal => {
                    shell.line.clear();
                    echo.extend_from_slice(b"^C\r\n");
                }
                8 | 127 if channel.terminal => {
                    if shell.line.pop().is_some() {
                        echo.extend_from_slice(b"\x08 \x08");
                    }
                }
                _ => {
                    goes_on = shell.line.len() < LONGEST_LINE;
                    shell.line.push(byte);
                    echo.push(byte);
                }
            }
            if !goes_on {
                channel.shell = None;
            }
        }
        if channel.terminal && !echo.is_empty() {
            session.data(id, CryptoVec::from_slice(&echo));
        }
    }
}

impl Handler for Connection {
    type Error = thrussh::Error;

    async fn auth_publickey(self, _user: &str, key: &thrussh_keys::key::PublicKey) -> Result<(Self, Auth), Self::Error> {
        let auth = if (self.machine.authorized)(&key.public_key_bytes()) { Auth::Accept } else { Auth::Reject };
        Ok((self, auth))
    }

    async fn channel_open_session(mut self, id: ChannelId, mut session: Session) -> Result<(Self, Session), Self::Error> {
        if self.channels.len() < MOST_CHANNELS {
            self.channels.insert(id, Channel::default());
        } else {
            session.close(id);
        }
        Ok((self, session))
    }

    async fn channel_open_x11(self, id: ChannelId, _: &str, _: u32, mut session: Session) -> Result<(Self, Session), Self::Error> {
        session.close(id);
        Ok((self, session))
    }

    async fn channel_open_direct_tcpip(
        self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        mut session: Session,
    ) -> Result<(Self, Session), Self::Error> {
        session.close(id);
        Ok((self, session))
    }

    async fn channel_close(mut self, id: ChannelId, session: Session) -> Result<(Self, Session), Self::Error> {
        if let Some(task) = self.channels.remove(&id).and_then(|channel| channel.task) {
            task.abort();
        }
        Ok((self, session))
    }

    async fn channel_eof(mut self, id: ChannelId, session: Session) -> Result<(Self, Session), Self::Error> {
        if let Some(shell) = self.channels.get_mut(&id).and_then(|channel| channel.shell.take())
            && !shell.line.is_empty()
        {
            // A last line without its end counts too; when it does not fit any more, the shell ends before it.
            let _ = shell.lines.try_send(String::from_utf8_lossy(&shell.line).into_owned());
        }
        Ok((self, session))
    }

    async fn pty_request(
        mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        mut session: Session,
    ) -> Result<(Self, Session), Self::Error> {
        match self.idle_channel(id) {
            Some(channel) => {
                channel.terminal = true;
                session.channel_success(id);
            }
            None => session.channel_failure(id),
        }
        Ok((self, session))
    }

    async fn env_request(self, id: ChannelId, _: &str, _: &str, mut session: Session) -> Result<(Self, Session), Self::Error> {
        session.channel_failure(id);
        Ok((self, session))
    }

    async fn window_change_request(
        self,
        id: ChannelId,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        mut session: Session,
    ) -> Result<(Self, Session), Self::Error> {
        session.channel_success(id);
        Ok((self, session))
    }

    async fn exec_request(mut self, id: ChannelId, command: &[u8], mut session: Session) -> Result<(Self, Session), Self::Error> {
        let machine = Arc::clone(&self.machine);
        let command = String::from_utf8_lossy(command).into_owned();
        if let Some(channel) = self.idle_channel(id) {
            let mut out = Out { handle: session.handle(), id, terminal: channel.terminal };
            let running = async move {
                let exit = out.run(&machine, &command).await;
                out.end(exit).await;
            };
            let task = self.tasks.spawn(running);
            self.channels.entry(id).or_default().task = Some(task);
            session.channel_success(id);
        } else {
            session.channel_failure(id);
        }
        Ok((self, session))
    }

    async fn shell_request(mut self, id: ChannelId, mut session: Session) -> Result<(Self, Session), Self::Error> {
        let machine = Arc::clone(&self.machine);
        if let Some(channel) = self.idle_channel(id) {
            let (lines, mut waiting) = mpsc::channel::<String>(WAITING_LINES);
            channel.shell = Some(Typing { line: Vec::new(), lines });
            let mut out = Out { handle: session.handle(), id, terminal: channel.terminal };
            let running = async move {
                let mut last = 0;
                while let Some(line) = waiting.recv().await {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    match words.as_slice() {
                        [] => {}
                        ["exit" | "logout"] => break,
                        ["exit", code] if code.parse::<u8>().is_ok() => {
                            last = code.parse().unwrap_or(last);
                            break;
                        }
                        _ => last = out.run(&machine, line.trim()).await,
                    }
                }
                out.end(last).await;
            };
            let task = self.tasks.spawn(running);
            self.channels.entry(id).or_default().task = Some(task);
            session.channel_success(id);
        } else {
            session.channel_failure(id);
        }
        Ok((self, session))
    }

    async fn data(mut self, id: ChannelId, data: &[u8], mut session: Session) -> Result<(Self, Session), Self::Error> {
        self.typed(id, data, &mut session);
        Ok((self, session))
    }
}

/// Where a command's output goes. Sending fails only when the connection is over, and then nobody waits for it.
struct Out {
    handle: Handle,
    id: ChannelId,
    terminal: bool,
}

impl Out {
    /// Runs one command, sends what it says, gives its exit status.
    async fn run(&mut self, machine: &Machine, command: &str) -> u32 {
        let ExecReply { stdout, stderr, exit, delay, hang } = (machine.exec)(command);
        if hang {
            std::future::pending::<()>().await;
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        for (text, error) in [(stdout, false), (stderr, true)] {
            let bytes = &text.as_bytes()[..text.len().min(MOST_OUTPUT)];
            if bytes.is_empty() {
                continue;
            }
            // A terminal has one stream, and wants to be told to go back to the line's beginning.
            let _ = if self.terminal {
                let shown = String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\n', "\r\n");
                self.handle.data(self.id, CryptoVec::from_slice(shown.as_bytes())).await
            } else if error {
                self.handle.extended_data(self.id, 1, CryptoVec::from_slice(bytes)).await
            } else {
                self.handle.data(self.id, CryptoVec::from_slice(bytes)).await
            };
        }
        exit
    }

    async fn end(mut self, exit: u32) {
        let _ = self.handle.exit_status_request(self.id, exit).await;
        let _ = self.handle.eof(self.id).await;
        let _ = self.handle.close(self.id).await;
    }
}
