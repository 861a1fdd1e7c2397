//! A TCP proxy before a catalog's server, which loses what it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// What becomes of the next message with a certain text in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    /// It passes, and instead of its answer the connection ends.
    LoseReply,
    /// It does not pass, and the connection ends.
    LoseRequest,
    /// It passes, and its answer, of HTTP, has another status.
    Answer(&'static str),
}

pub(super) struct Proxy {
    pub(super) port: u16,
    state: Arc<State>,
}

struct State {
    trap: Mutex<Option<(&'static str, Then)>>,
    open: Mutex<Vec<TcpStream>>,
    refusing: AtomicBool,
    over: AtomicBool,
}

impl Proxy {
    /// In front of a port of this machine.
    pub(super) fn new(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            trap: Mutex::default(),
            open: Mutex::default(),
            refusing: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let serving = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.over.load(SeqCst) {
                    return;
                }
                if !serving.refusing.load(SeqCst) {
                    serving.serve(client, TcpStream::connect(("127.0.0.1", target)).unwrap());
                }
            }
        });
        Self { port, state }
    }

    /// Waits for a message.
    pub(super) fn set_trap(&self, text: &'static str, then: Then) {
        *self.state.trap.lock().unwrap() = Some((text, then));
    }

    /// Whether the message has come.
    pub(super) fn has_caught(&self) -> bool {
        self.state.trap.lock().unwrap().is_none()
    }

    /// Ends all connections.
    pub(super) fn cut(&self) {
        self.state.open.lock().unwrap().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    /// Ends all connections, and takes no more until it is told to.
    pub(super) fn refuse(&self, refuse: bool) {
        self.state.refusing.store(refuse, SeqCst);
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, SeqCst);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn serve(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let mut open = self.open.lock().unwrap();
        open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        let fate = Arc::new(Mutex::new(None));
        let pump = |from: &TcpStream, to: &TcpStream, asks: bool| {
            let (state, fate) = (self.clone(), fate.clone());
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || {
                let mut buffer = vec![0; 256 << 10];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    let mut bytes = buffer[..count].to_vec();
                    let (passes, last) = if asks { state.asked(&bytes, &fate) } else { answered(&mut bytes, &fate) };
                    if !passes || to.write_all(&bytes).is_err() || last {
                        break;
                    }
                }
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        };
        pump(&client, &server, true);
        pump(&server, &client, false);
    }

    /// Whether a message passes, and whether it is the last.
    fn asked(&self, bytes: &[u8], fate: &Mutex<Option<Then>>) -> (bool, bool) {
        let mut trap = self.trap.lock().unwrap();
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        if let Some((_, then)) = trap.take_if(|(text, _)| holds(text)) {
            *fate.lock().unwrap() = Some(then);
            return (then != Then::LoseRequest, false);
        }
        (true, false)
    }
}

/// Whether an answer passes, and whether it is the last. It may be another: of no known length then, it ends with the connection.
fn answered(bytes: &mut [u8], fate: &Mutex<Option<Then>>) -> (bool, bool) {
    match fate.lock().unwrap().take() {
        Some(Then::Answer(status)) => {
            bytes[b"HTTP/1.1 ".len()..][..3].copy_from_slice(status.as_bytes());
            (true, true)
        }
        Some(Then::LoseReply | Then::LoseRequest) => (false, true),
        None => (true, false),
    }
}
