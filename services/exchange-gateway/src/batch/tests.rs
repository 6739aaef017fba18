use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_testkit::wait::until;
use futures::future::join_all;
use tokio::sync::Semaphore;

use super::*;

/// Answers each number with its double, remembers the sizes of its calls, and answers none before the gate lets it.
struct Doubler {
    gate: Semaphore,
    calls: Mutex<Vec<usize>>,
    started: AtomicUsize,
}

impl Doubler {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self { gate: Semaphore::new(permits), calls: Mutex::default(), started: AtomicUsize::new(0) })
    }

    fn batcher(self: &Arc<Self>) -> Batcher<u64, u64> {
        let doubler = Arc::clone(self);
        Batcher::new("double", move |numbers: Vec<u64>| {
            let doubler = Arc::clone(&doubler);
            async move {
                doubler.calls.lock().unwrap().push(numbers.len());
                doubler.started.fetch_add(1, Ordering::SeqCst);
                doubler.gate.acquire().await.unwrap().forget();
                assert!(!numbers.contains(&13), "an unlucky number");
                numbers.into_iter().filter(|number| *number != 404).map(|number| number * 2).collect()
            }
        })
    }

    /// Waits until so many calls have started.
    async fn started(&self, count: usize) {
        until("the calls have started", || std::future::ready(self.started.load(Ordering::SeqCst) >= count)).await;
    }

    fn sizes(&self) -> Vec<usize> {
        self.calls.lock().unwrap().clone()
    }
}

fn send(batcher: &Batcher<u64, u64>, number: u64) -> tokio::task::JoinHandle<Result<u64, Unanswered>> {
    let batcher = batcher.clone();
    tokio::spawn(async move { batcher.send(number).await })
}

#[tokio::test(start_paused = true)]
async fn a_lone_item_leaves_at_once_and_alone() {
    let doubler = Doubler::new(usize::MAX >> 3);
    let before = Instant::now();
    assert_eq!(doubler.batcher().send(21).await, Ok(42));
    assert_eq!((doubler.sizes(), before.elapsed()), (vec![1], Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_arrives_during_a_call_leaves_together_and_everybody_gets_his_own_answer() {
    let doubler = Doubler::new(0);
    let batcher = doubler.batcher();
    let first = send(&batcher, 0);
    doubler.started(1).await;
    let mut others: Vec<_> = (100..140).map(|number| Box::pin(batcher.send(number))).collect();
    for other in &mut others {
        assert!(futures::poll!(other).is_pending());
    }
    doubler.gate.add_permits(2);
    assert_eq!(first.await.unwrap(), Ok(0));
    for (number, answer) in (100..140).zip(join_all(others).await) {
        assert_eq!(answer, Ok(number * 2));
    }
    assert_eq!(doubler.sizes(), [1, 40]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_and_the_calls_in_flight_are_bounded() {
    let doubler = Doubler::new(0);
    let batcher = doubler.batcher();
    let all: Vec<_> = (1_000..2_000).map(|number| send(&batcher, number)).collect();
    // Long after everybody's patience is over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(doubler.started.load(Ordering::SeqCst), MAX_CALLS);
    doubler.gate.add_permits(1_000);
    for (number, answer) in (1_000..2_000).zip(join_all(all).await) {
        assert_eq!(answer.unwrap(), Ok(number * 2));
    }
    assert!(doubler.sizes().iter().all(|size| *size <= MAX_ITEMS), "{:?}", doubler.sizes());
    assert_eq!(doubler.sizes().iter().sum::<usize>(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_does_not_hold_up_the_next_for_long() {
    let doubler = Doubler::new(0);
    let batcher = doubler.batcher();
    let _hangs = send(&batcher, 1);
    doubler.started(1).await;
    let _next = send(&batcher, 2);
    let before = Instant::now();
    doubler.started(2).await;
    assert!(before.elapsed() <= 2 * PATIENCE, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn s51_a_caller_who_goes_away_takes_nobody_elses_answer_with_him() {
    let doubler = Doubler::new(0);
    let batcher = doubler.batcher();
    let first = send(&batcher, 0);
    doubler.started(1).await;
    let (gone, stays) = (send(&batcher, 1), send(&batcher, 2));
    tokio::time::sleep(PATIENCE * 2).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    doubler.gate.add_permits(10);
    assert_eq!((first.await.unwrap(), stays.await.unwrap()), (Ok(0), Ok(4)));
}

#[tokio::test(start_paused = true)]
async fn a_missing_answer_and_a_panic_lose_one_batch_and_no_more() {
    let doubler = Doubler::new(100);
    let batcher = doubler.batcher();
    assert_eq!(batcher.send(404).await, Err(Unanswered::Lost));
    assert_eq!(batcher.send(13).await, Err(Unanswered::Lost));
    assert_eq!(batcher.send(4).await, Ok(8));
}

#[tokio::test(start_paused = true)]
async fn s51_what_cannot_be_sent_in_time_is_certainly_not_sent() {
    let doubler = Doubler::new(0);
    let batcher = doubler.batcher();
    // As many calls as there may be, none of which comes to an end.
    let mut hanging = Vec::new();
    for number in 1..=MAX_CALLS {
        hanging.push(send(&batcher, 1));
        doubler.started(number).await;
    }
    let before = Instant::now();
    // More than fit into batch and queue together.
    let late: Vec<_> = (0..MAX_ITEMS + QUEUE + 100).map(|_| send(&batcher, 2)).collect();
    for late in join_all(late).await {
        assert_eq!(late.unwrap(), Err(Unanswered::NotSent));
    }
    assert!(before.elapsed() < QUEUE_LIMIT + Duration::from_millis(100), "{:?}", before.elapsed());
    doubler.gate.add_permits(100);
    for hanging in join_all(hanging).await {
        assert_eq!(hanging.unwrap(), Ok(2));
    }
    assert_eq!(batcher.send(4).await, Ok(8));
    assert_eq!(doubler.sizes().iter().sum::<usize>(), MAX_CALLS + 1, "{:?}", doubler.sizes());
}
