//! The line to Stripe, which can be cut: connections break in the middle of a request or of an answer, and for a while
//! nobody answers at all.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Forwards connections to an address. It goes away with the value.
pub(crate) struct Line {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    /// New connections are closed at once.
    down: AtomicBool,
    /// It goes away.
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    cuts: AtomicUsize,
}

impl Line {
    pub(crate) fn to(url: &str) -> Self {
        let to = url.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            to,
            down: AtomicBool::new(false),
            over: AtomicBool::new(false),
            open: Mutex::default(),
            cuts: AtomicUsize::new(0),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.over.load(Ordering::SeqCst) {
                    return;
                }
                accepting.connect(stream);
            }
        });
        Self { url, shared }
    }

    /// Cuts every connection wherever it is, and refuses new ones until [`Line::mend`].
    pub(crate) fn cut(&self) {
        self.shared.down.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
            self.shared.cuts.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn mend(&self) {
        self.shared.down.store(false, Ordering::SeqCst);
    }

    /// How many connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst) / 2
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.cut();
        // So that the one who listens looks.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

impl Shared {
    fn connect(&self, near: TcpStream) {
        if self.down.load(Ordering::SeqCst) {
            return;
        }
        let Ok(far) = TcpStream::connect(self.to) else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let mut open = self.open.lock().unwrap();
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || forward(from, to));
        }
        open.extend([near, far]);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    // Small pieces, so that a cut leaves halves of requests and answers.
    let mut piece = [0; 256];
    while let Ok(size @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..size]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
