//! A proxy that breaks connections on command.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use crate::port::Port;
use crate::wait::pause;

/// How long no more of a reply must come until it counts as complete.
const QUIET: Duration = Duration::from_millis(50);

/// A TCP proxy on 127.0.0.1 in front of a service there. It passes everything on until a test changes that.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    state: Arc<Mutex<State>>,
    door: Mutex<Option<Door>>,
}

#[derive(Debug, Default)]
struct State {
    target: u16,
    delay: Duration,
    /// How many bytes of replies still pass.
    budget: Option<usize>,
    lose: Option<Lose>,
    lost: usize,
    open: Vec<Connection>,
}

/// Whose replies are to be lost.
#[derive(Debug)]
struct Lose {
    marker: Vec<u8>,
    times: usize,
}

/// Both ends of a connection.
#[derive(Debug)]
struct Connection {
    client: TcpStream,
    service: TcpStream,
    /// Its replies are dropped, and when there are no more, it is cut.
    losing: Arc<AtomicBool>,
}

/// What accepts connections.
#[derive(Debug)]
struct Door {
    closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Proxy {
    /// Starts one in front of the service on `port`.
    pub fn in_front_of(port: u16) -> Self {
        let state = State { target: port, ..State::default() };
        let proxy = Self { port: Port::free(), state: Arc::new(Mutex::new(state)), door: Mutex::new(None) };
        proxy.accept();
        proxy
    }

    /// The port to connect to instead.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where clients find the Redis behind it.
    pub fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port())
    }

    /// Stands in front of another service from now on: a fail-over. Connections are cut.
    pub fn point_at(&self, port: u16) {
        self.lead_to(port);
        self.cut();
    }

    /// Leads new connections to another service. Those that are open stay where they are.
    pub fn lead_to(&self, port: u16) {
        self.state.lock().target = port;
    }

    /// Cuts every connection. New ones are accepted.
    pub fn cut(&self) {
        self.state.lock().open.drain(..).for_each(|connection| connection.cut());
    }

    /// Cuts every connection and refuses new ones.
    pub fn refuse(&self) {
        if let Some(door) = self.door.lock().take() {
            door.closing.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect(("127.0.0.1", self.port()));
            door.thread.join().expect("no panic");
        }
        self.cut();
    }

    /// Accepts connections again after [`Proxy::refuse`].
    pub fn accept(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port())).expect("the port is ours");
        let (closing, state) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.state));
        let closed = Arc::clone(&closing);
        let thread = thread::spawn(move || {
            let clients = listener.incoming().take_while(|_| !closed.load(Ordering::SeqCst));
            clients.filter_map(Result::ok).for_each(|client| connect(client, &state));
        });
        *self.door.lock() = Some(Door { closing, thread });
    }

    /// The next `times` that a request contains `marker` (`EVALSHA`, or `""` for any), it goes through, the reply does
    /// not, and then the connection is cut. [`Proxy::lost`] counts them.
    pub fn lose_replies_to(&self, marker: &str, times: usize) {
        self.state.lock().lose = Some(Lose { marker: marker.into(), times });
    }

    /// How many connections were cut instead of a reply so far.
    pub fn lost(&self) -> usize {
        self.state.lock().lost
    }

    /// Holds back every piece of a reply for so long.
    pub fn delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    /// Once so many more bytes of replies have passed, cuts the connection that would take the next one.
    pub fn cut_after(&self, bytes: usize) {
        self.state.lock().budget = Some(bytes);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
    }
}

impl Connection {
    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.service.shutdown(Shutdown::Both);
    }

    fn again(&self) -> Self {
        let again = |stream: &TcpStream| stream.try_clone().expect("a socket");
        let (client, service) = (again(&self.client), again(&self.service));
        Self { client, service, losing: Arc::clone(&self.losing) }
    }
}

/// Connects a client to the service, or leaves it.
fn connect(client: TcpStream, state: &Arc<Mutex<State>>) {
    let target = state.lock().target;
    let Ok(service) = TcpStream::connect(("127.0.0.1", target)) else { return };
    for stream in [&client, &service] {
        let _ = stream.set_nodelay(true);
    }
    let connection = Connection { client, service, losing: Arc::default() };
    let ways: [fn(Connection, &Mutex<State>); 2] = [pass_requests, pass_replies];
    for pass in ways {
        let (connection, state) = (connection.again(), Arc::clone(state));
        thread::spawn(move || pass(connection, &state));
    }
    state.lock().open.push(connection);
}

fn pass_requests(mut connection: Connection, state: &Mutex<State>) {
    let (mut buffer, mut seen) = ([0; 1 << 16], Vec::new());
    while let Some(piece) = read(&mut connection.client, &mut buffer) {
        seen.extend_from_slice(piece);
        if !connection.losing.load(Ordering::SeqCst) {
            connection.losing.store(state.lock().loses(&mut seen), Ordering::SeqCst);
        }
        if connection.service.write_all(piece).is_err() {
            break;
        }
    }
    if !connection.losing.load(Ordering::SeqCst) {
        connection.cut();
    }
}

fn pass_replies(mut connection: Connection, state: &Mutex<State>) {
    let mut buffer = [0; 1 << 16];
    while let Some(piece) = read(&mut connection.service, &mut buffer) {
        if connection.losing.load(Ordering::SeqCst) {
            let _ = connection.service.set_read_timeout(Some(QUIET));
            while read(&mut connection.service, &mut buffer).is_some() {}
            break;
        }
        let (delay, passing) = state.lock().passing(piece.len());
        pause(delay);
        if connection.client.write_all(&piece[..passing]).is_err() || passing < piece.len() {
            break;
        }
    }
    connection.cut();
}

impl State {
    /// Whether the replies to what was `seen` are to be lost, and keeps of it what could be the beginning of the marker.
    fn loses(&mut self, seen: &mut Vec<u8>) -> bool {
        let wanted = self.lose.as_mut().filter(|lose| lose.times > 0);
        let length = wanted.as_ref().map_or(1, |lose| lose.marker.len().max(1));
        let found = wanted.filter(|lose| {
            lose.marker.is_empty() || seen.windows(lose.marker.len()).any(|part| part == lose.marker)
        });
        let loses = found.map(|lose| lose.times -= 1).is_some();
        self.lost += usize::from(loses);
        seen.drain(..seen.len().saturating_sub(length - 1));
        loses
    }

    /// How long to hold back a reply, and how many bytes of it to let pass.
    fn passing(&mut self, bytes: usize) -> (Duration, usize) {
        let passing = self.budget.map_or(bytes, |budget| bytes.min(budget));
        self.budget = self.budget.map(|budget| budget - passing).filter(|_| passing == bytes);
        (self.delay, passing)
    }
}

/// What comes next, if more comes.
fn read<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    loop {
        match stream.read(buffer) {
            Ok(0) => return None,
            Ok(bytes) => return Some(&buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests;
