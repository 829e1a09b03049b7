//! Polls one task until it rests at a failpoint or is done, so that nothing but the simulator decides who goes next.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::failpoint;

/// A future of a task.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Hears when a task can go on.
#[derive(Default)]
pub struct Signal {
    is_woken: AtomicBool,
    outer: Mutex<Option<Waker>>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        if let Some(outer) = self.outer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            outer.wake();
        }
    }
}

impl Signal {
    fn take(&self) -> bool {
        self.is_woken.swap(false, Ordering::SeqCst)
    }

    async fn woken(&self) {
        std::future::poll_fn(|context| {
            *self.outer.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
            if self.take() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Polls a task until it rests (`None`) or is done. Its statements are over when they have been polled once: how fast
/// SQLite's own thread is decides nothing.
pub async fn poll_to_rest<T>(task: u64, future: &mut Boxed<T>, signal: &Arc<Signal>) -> Option<T> {
    let waker = Waker::from(signal.clone());
    loop {
        failpoint::enter(task, super::stage::now_ms());
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        if signal.take() {
            continue;
        }
        if failpoint::is_at_rest(task) {
            // A task that only yielded is woken when the runtime takes its turn.
            tokio::task::yield_now().await;
            if !signal.take() {
                return None;
            }
            continue;
        }
        signal.woken().await;
    }
}
