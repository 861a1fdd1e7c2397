//! A client of the cluster, with a thread that serves its events: errors of connections, tokens to renew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::NativeClient;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::context::Context;
use super::failure::request_failed;
use super::ffi::Failure;
use super::options::ClientOptions;
use crate::error::{Error, Result};
use crate::time::{instant, jitter};

/// Between two looks at whether the client is still needed. Most clients ask one question, and who asks waits for their end.
const EVENTS: Duration = Duration::from_millis(100);
const EVENTS_OF_A_NEW_ONE: Duration = Duration::from_millis(5);
const NEW: Duration = Duration::from_secs(1);
/// How long one broker is asked.
pub(super) const ANSWER: Duration = Duration::from_secs(3);
/// How long a request is made again: brokers take their time to agree on who leads.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// A client. The last to drop it waits for its thread.
pub(super) struct Client {
    shared: Arc<Shared>,
    events: Option<JoinHandle<()>>,
    options: ClientOptions,
    /// Whether the last request got no answer.
    doubtful: AtomicBool,
}

struct Shared {
    consumer: BaseConsumer<Context>,
    over: AtomicBool,
}

impl Client {
    /// Sets a client up; it connects when it is needed. A `ConfigError` names an option that librdkafka rejects.
    pub fn new(options: &ClientOptions, config: &ClientConfig) -> Result<Self> {
        let context = Context::new(options.tokens());
        let consumer = config.create_with_context(context).map_err(|error| options.rejected(&error))?;
        let shared = Arc::new(Shared { consumer, over: AtomicBool::new(false) });
        let served = shared.clone();
        let events = std::thread::Builder::new().name("kappa-kafka-events".into()).spawn(move || {
            let began = instant();
            while !served.over.load(Relaxed) {
                // Errors are noted by the context; partitions report their own in their queues.
                let _ = served.consumer.poll(if began.elapsed() < NEW { EVENTS_OF_A_NEW_ONE } else { EVENTS });
            }
        });
        let events = events.map_err(|e| Error::internal(format!("start a thread: {e}")))?;
        Ok(Self { shared, events: Some(events), options: options.clone(), doubtful: AtomicBool::new(false) })
    }

    /// The safe bindings' client.
    pub fn consumer(&self) -> &BaseConsumer<Context> {
        &self.shared.consumer
    }

    /// librdkafka's client.
    pub fn native(&self) -> &NativeClient {
        self.shared.consumer.client().native_client()
    }

    /// How it was set up.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Makes a request, for some seconds again and again while there is no answer, or none but that another broker leads.
    /// `doing` says what for, in an error.
    pub fn request<T>(&self, doing: &str, ask: impl Fn(&Self) -> Result<T, Failure>) -> Result<T> {
        let began = instant();
        loop {
            let outcome = self
                .look_again()
                .and_then(|()| ask(self))
                .map_err(|failure| request_failed(doing, &failure, self.consumer().context().last_error(), &self.options));
            let unanswered = outcome.as_ref().is_err_and(Error::is_retryable);
            self.doubtful.store(unanswered, Relaxed);
            if !unanswered || began.elapsed() > PATIENCE {
                return outcome;
            }
            std::thread::sleep(jitter(PAUSE));
        }
    }

    /// librdkafka keeps to the broker that it believes to lead a partition or to be the controller, also when that one is gone,
    /// and then connects to it without a pause: whoever got no answer looks first at which brokers there are now.
    fn look_again(&self) -> Result<(), Failure> {
        if self.doubtful.load(Relaxed) {
            self.consumer().fetch_metadata(None, ANSWER).map_err(|error| Failure::from(&error))?;
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        if let Some(events) = self.events.take() {
            let _ = events.join();
        }
        // The bindings do the same, but look only a tenth of a second later whether it is closed.
        let (consumer, began) = (self.consumer(), instant());
        if consumer.close_queue().is_ok() {
            while !consumer.closed() && began.elapsed() < EVENTS {
                let _ = consumer.poll(Duration::from_millis(1));
            }
        }
    }
}
