//! Watchers of one task share one reader of the store.
//!
//! Each watched task has a feed: its newest events in memory, read once after each wake by whichever watcher comes first.
//! The others take from the feed. A watcher that is further behind than the feed reaches reads the store by its cursor, so
//! a slow one loses nothing and holds nobody up. Nothing here runs by itself: a watcher that goes away in the middle of a
//! read leaves it to the next one.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use domain::TaskId;
use domain::event::Event;
use domain::limit;
use store::hub::Watch;
use store::{EventCursor, EventQuery, Store, StoreError};
use tokio::time::Instant;

use crate::api::wire;

/// Events of one task that are kept.
const KEPT_MAX: usize = 256;
/// Bytes of them that are kept.
const KEPT_MAX_BYTES: usize = 1024 * 1024;
/// Events of one read.
const PAGE: u32 = limit::EVENTS_PAGE_MAX;
/// The store is looked at this often though nothing was told, in case another process wrote.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An event and its JSON, made once for all who watch.
pub struct Told {
    /// The event.
    pub event: Event,
    /// As `/events` serves it.
    pub json: String,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Told({} {})", self.event.seq, self.event.kind.as_str())
    }
}

impl Told {
    fn new(event: Event) -> Arc<Told> {
        let json = serde_json::to_string(&wire::event(&event)).unwrap_or_default();
        Arc::new(Told { event, json })
    }
}

/// What a watcher gets.
#[derive(Debug)]
pub enum Next {
    /// The next events, at least one.
    Events(Vec<Arc<Told>>),
    /// The time is up and there is nothing new.
    Nothing,
    /// The task has ended and all was told.
    Ended,
}

/// The feeds of all watched tasks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feeds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    feeds: Mutex<HashMap<TaskId, Weak<Feed>>>,
}

#[derive(Debug)]
struct Feed {
    task: TaskId,
    all: Arc<Inner>,
    /// Keeps the count of news going while anybody watches.
    news: Mutex<Watch>,
    kept: Mutex<Kept>,
    /// Held by the watcher that reads for all.
    reading: tokio::sync::Mutex<()>,
}

/// The newest events, and how new they are.
#[derive(Debug, Default)]
struct Kept {
    told: VecDeque<Arc<Told>>,
    bytes: usize,
    /// Number of the newest event that was read.
    last: u64,
    read: Option<Read>,
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    /// The count of news before the read.
    version: u64,
    at: Instant,
}

/// Where a cursor stands beside what is kept.
enum Place {
    Events(Vec<Arc<Told>>),
    /// Older than what is kept.
    Behind,
    /// At the newest event, and nothing was told since it was read.
    Newest {
        ended: bool,
    },
    /// There may be something new.
    Stale,
}

impl Feeds {
    /// No feed yet.
    pub fn new(store: Store) -> Feeds {
        Feeds(Arc::new(Inner { store, feeds: Mutex::default() }))
    }

    /// Watches a task from the event after number `last` on; 0 is from the beginning.
    pub fn watch(&self, task: TaskId, last: u64) -> Watcher {
        // Subscribed before anything is read: what is written in between is told.
        let news = self.0.store.watch(task);
        let mut feeds = lock(&self.0.feeds);
        let feed = match feeds.get(&task).and_then(Weak::upgrade) {
            Some(feed) => feed,
            None => {
                let feed = Arc::new(Feed {
                    task,
                    all: self.0.clone(),
                    news: Mutex::new(self.0.store.watch(task)),
                    kept: Mutex::default(),
                    reading: tokio::sync::Mutex::default(),
                });
                feeds.insert(task, Arc::downgrade(&feed));
                feed
            }
        };
        drop(feeds);
        Watcher { feed, news, last }
    }

    /// Tasks that are watched now.
    pub fn len(&self) -> usize {
        lock(&self.0.feeds).len()
    }

    /// Whether nobody watches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut feeds = lock(&self.all.feeds);
        // Another feed of this task may have taken the place.
        if feeds.get(&self.task).is_some_and(|feed| feed.strong_count() == 0) {
            feeds.remove(&self.task);
        }
    }
}

/// One watcher's place in a feed.
#[derive(Debug)]
pub struct Watcher {
    feed: Arc<Feed>,
    news: Watch,
    last: u64,
}

impl Watcher {
    /// The next events, at most `most`; waits for them until `deadline`, for ever when there is none. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self, most: usize, deadline: Option<Instant>) -> Result<Next, StoreError> {
        loop {
            let version = self.news.version();
            let place = self.feed.kept().place(self.last, most, version);
            match place {
                Place::Events(told) => return Ok(self.advance(told)),
                Place::Behind => {
                    let told = self.feed.read_after(self.last, most).await?;
                    if told.is_empty() {
                        // What lay between was taken away by retention: go on with what is kept.
                        self.last = self.feed.kept().first().saturating_sub(1).max(self.last);
                        continue;
                    }
                    return Ok(self.advance(told));
                }
                Place::Newest { ended: true } => return Ok(Next::Ended),
                Place::Newest { ended: false } => {
                    let left = deadline.map_or(LOOK_EVERY, |d| d.saturating_duration_since(Instant::now()));
                    if left.is_zero() {
                        return Ok(Next::Nothing);
                    }
                    self.news.changed(left.min(LOOK_EVERY)).await;
                    self.feed.read_if_old().await?;
                }
                Place::Stale => self.feed.read_for_all(|read| read.version >= version).await?,
            }
        }
    }

    fn advance(&mut self, told: Vec<Arc<Told>>) -> Next {
        self.last = told.last().map_or(self.last, |t| t.event.seq);
        Next::Events(told)
    }
}

impl Feed {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    async fn read_after(&self, last: u64, most: usize) -> Result<Vec<Arc<Told>>, StoreError> {
        let limit = u32::try_from(most).unwrap_or(PAGE).min(PAGE + 1);
        let query = EventQuery { task: self.task, from: EventCursor::AfterSeq(last), limit };
        Ok(self.all.store.events_read(query).await?.into_iter().map(Told::new).collect())
    }

    async fn read_if_old(&self) -> Result<(), StoreError> {
        let fresh = |read: Read| read.at.elapsed() < LOOK_EVERY;
        if self.kept().read.is_some_and(fresh) {
            return Ok(());
        }
        self.read_for_all(fresh).await
    }

    /// Reads what is new, unless somebody has meanwhile and that is `enough`.
    async fn read_for_all(&self, enough: impl Fn(Read) -> bool) -> Result<(), StoreError> {
        let _reading = self.reading.lock().await;
        if self.kept().read.is_some_and(enough) {
            return Ok(());
        }
        let read = Read { version: lock(&self.news).version(), at: Instant::now() };
        let page = if self.kept().read.is_none() { self.newest().await? } else { self.page().await? };
        let mut full = page.len() >= PAGE as usize;
        let none = page.is_empty();
        self.kept().take(page);
        while full && self.kept().read.is_some() {
            let page = self.page().await?;
            full = page.len() >= PAGE as usize;
            self.kept().take(page);
        }
        if none || self.kept().told.back().is_some_and(|t| t.event.kind.is_terminal()) {
            self.look_for_the_end().await?;
        }
        self.kept().read = Some(read);
        Ok(())
    }

    /// The last events are stored with the state that ends the task: once that is seen, one more read has them all.
    async fn look_for_the_end(&self) -> Result<(), StoreError> {
        let task = self.all.store.task_get(self.task).await?;
        if task.is_none_or(|t| t.status().is_terminal()) {
            let page = self.page().await?;
            let mut kept = self.kept();
            kept.ended = page.is_empty();
            kept.take(page);
        }
        Ok(())
    }

    async fn page(&self) -> Result<Vec<Arc<Told>>, StoreError> {
        let last = self.kept().last;
        self.read_after(last, PAGE as usize).await
    }

    async fn newest(&self) -> Result<Vec<Arc<Told>>, StoreError> {
        let query = EventQuery { task: self.task, from: EventCursor::Newest, limit: PAGE };
        Ok(self.all.store.events_read(query).await?.into_iter().rev().map(Told::new).collect())
    }
}

impl Kept {
    /// Number of the oldest event that is kept.
    fn first(&self) -> u64 {
        self.told.front().map_or(self.last + 1, |t| t.event.seq)
    }

    fn place(&self, last: u64, most: usize, version: u64) -> Place {
        let Some(read) = self.read else { return Place::Stale };
        if last < self.last {
            if last + 1 < self.first() {
                return Place::Behind;
            }
            let skip = usize::try_from(last + 1 - self.first()).unwrap_or(usize::MAX);
            return Place::Events(self.told.iter().skip(skip).take(most).cloned().collect());
        }
        match read.version < version {
            true => Place::Stale,
            false => Place::Newest { ended: self.ended },
        }
    }

    fn take(&mut self, page: Vec<Arc<Told>>) {
        for told in page {
            self.last = told.event.seq;
            self.bytes += told.json.len();
            self.told.push_back(told);
        }
        while self.told.len() > KEPT_MAX || (self.bytes > KEPT_MAX_BYTES && self.told.len() > 1) {
            let Some(oldest) = self.told.pop_front() else { break };
            self.bytes -= oldest.json.len();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
