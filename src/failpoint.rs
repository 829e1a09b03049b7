//! Places between two durable steps, where a simulation may let a process die, sleep, or lose its database.
//!
//! Without the feature `simulation` nothing of this is compiled: a failpoint is no code at all.

/// A place between two durable steps, named after the steps of the model around it.
#[cfg(feature = "simulation")]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoint::reach($name).await
    };
}
#[cfg(not(feature = "simulation"))]
macro_rules! failpoint {
    ($name:literal) => {};
}

/// A statement or a transaction on SQLite. Outside of a simulation nothing is done to it.
#[cfg(not(feature = "simulation"))]
pub(crate) fn at_once<F: Future>(statement: F) -> F {
    statement
}

/// Whether the database fails at this moment of a transaction: never, outside of a simulation.
#[cfg(not(feature = "simulation"))]
pub(crate) const fn database_fails(_moment: &'static str) -> bool {
    false
}

/// Whether a deliberate mistake is switched on: never, outside of a simulation.
#[cfg(feature = "simulation")]
macro_rules! mutant {
    ($bug:ident) => {
        $crate::simulation::bugs::is_on($crate::simulation::bugs::Bug::$bug)
    };
}
#[cfg(not(feature = "simulation"))]
macro_rules! mutant {
    ($bug:ident) => {
        false
    };
}

#[cfg(feature = "simulation")]
pub use hub::*;

#[cfg(feature = "simulation")]
mod hub {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::Thread;

    /// Asked before a transaction begins and after it was committed: does the database fail now?
    pub type DatabaseFaults = Box<dyn FnMut(&'static str) -> bool>;

    #[derive(Default)]
    struct Hub {
        armed: bool,
        now_ms: i64,
        task: u64,
        tickets: u64,
        waiting: BTreeMap<u64, Waiting>,
        database: Option<DatabaseFaults>,
    }

    struct Waiting {
        task: u64,
        place: &'static str,
        not_before_ms: i64,
        released: bool,
        waker: Waker,
    }

    thread_local! {
        static HUB: RefCell<Hub> = RefCell::default();
        static WAKER: Waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    }

    fn with<T>(use_it: impl FnOnce(&mut Hub) -> T) -> T {
        HUB.with_borrow_mut(use_it)
    }

    /// A task that waits at a place.
    #[derive(Clone, Copy, Debug)]
    pub struct Stop {
        /// To release it.
        pub ticket: u64,
        /// Where.
        pub place: &'static str,
        /// Not to be released before this instant of the simulation.
        pub not_before_ms: i64,
    }

    /// From now on tasks of this thread stop at failpoints, and the database fails when `database` says so.
    pub fn arm(database: DatabaseFaults) {
        with(|hub| *hub = Hub { armed: true, database: Some(database), ..Hub::default() });
    }

    /// Failpoints of this thread do nothing any more.
    pub fn disarm() {
        with(|hub| *hub = Hub::default());
    }

    /// The task that is polled next, and the true time.
    pub fn enter(task: u64, now_ms: i64) {
        with(|hub| (hub.task, hub.now_ms) = (task, now_ms));
    }

    /// Sleeps in the time of the simulation. `false`: there is none, and the caller sleeps in its own way.
    pub async fn sleep(pause: std::time::Duration) -> bool {
        let until = with(|hub| hub.armed.then_some(hub.now_ms));
        let Some(now_ms) = until else { return false };
        reach_after("asleep", now_ms + i64::try_from(pause.as_millis()).unwrap_or(0)).await;
        true
    }

    /// Where a task waits. Empty: it runs, or waits for something else.
    #[must_use]
    pub fn stops(task: u64) -> Vec<Stop> {
        with(|hub| {
            let of_task = hub.waiting.iter().filter(|(_, one)| one.task == task && !one.released);
            of_task
                .map(|(ticket, one)| Stop {
                    ticket: *ticket,
                    place: one.place,
                    not_before_ms: one.not_before_ms,
                })
                .collect()
        })
    }

    /// Whether the task waits at a failpoint.
    #[must_use]
    pub fn is_at_rest(task: u64) -> bool {
        with(|hub| hub.waiting.values().any(|one| one.task == task && !one.released))
    }

    /// Lets a task go on.
    pub fn release(ticket: u64) {
        let waker = with(|hub| {
            let waiting = hub.waiting.get_mut(&ticket)?;
            waiting.released = true;
            Some(waiting.waker.clone())
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the database fails at this moment of a transaction.
    pub(crate) fn database_fails(moment: &'static str) -> bool {
        let Some(mut database) = with(|hub| hub.database.take()) else { return false };
        let fails = database(moment);
        with(|hub| hub.database = Some(database));
        fails
    }

    /// Stops here until released.
    pub fn reach(place: &'static str) -> Reach {
        reach_after(place, 0)
    }

    /// Stops here until released, which does not happen before an instant of the simulation.
    pub fn reach_after(place: &'static str, not_before_ms: i64) -> Reach {
        Reach { place, not_before_ms, ticket: None }
    }

    /// See [`reach`].
    #[derive(Debug)]
    pub struct Reach {
        place: &'static str,
        not_before_ms: i64,
        ticket: Option<u64>,
    }

    impl Future for Reach {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let this = &mut *self;
            with(|hub| match this.ticket {
                None if !hub.armed => Poll::Ready(()),
                None => {
                    hub.tickets += 1;
                    this.ticket = Some(hub.tickets);
                    let waker = context.waker().clone();
                    let (task, place, not_before_ms) = (hub.task, this.place, this.not_before_ms);
                    let waiting = Waiting { task, place, not_before_ms, released: false, waker };
                    hub.waiting.insert(hub.tickets, waiting);
                    Poll::Pending
                }
                Some(ticket) => match hub.waiting.get_mut(&ticket) {
                    Some(waiting) if !waiting.released => {
                        waiting.waker.clone_from(context.waker());
                        Poll::Pending
                    }
                    Some(_) | None => Poll::Ready(()),
                },
            })
        }
    }

    impl Drop for Reach {
        fn drop(&mut self) {
            if let Some(ticket) = self.ticket {
                with(|hub| hub.waiting.remove(&ticket));
            }
        }
    }

    /// Wakes the thread that waits for its statement.
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Runs a statement or a transaction on SQLite to its end. SQLite answers from a thread of its own: in a simulation
    /// everything else waits for it, or what it does next would depend on how fast that thread is.
    pub(crate) async fn at_once<F: Future>(statement: F) -> F::Output {
        if !with(|hub| hub.armed) {
            return statement.await;
        }
        // The runtime's budget is renewed when this thread yields, which it does not do here.
        let mut statement = pin!(tokio::task::unconstrained(statement));
        WAKER.with(|waker| {
            loop {
                match statement.as_mut().poll(&mut Context::from_waker(waker)) {
                    Poll::Ready(output) => return output,
                    Poll::Pending => std::thread::park(),
                }
            }
        })
    }
}
