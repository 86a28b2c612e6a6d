//! `DescribeTopics`: one request to a broker, and its answer.

use std::ffi::{CStr, CString, c_int};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{IsError, KafkaError, KafkaResult, RDKafkaErrorCode};

/// How much longer than the request itself its answer is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// What the brokers know of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its id, as Kafka's own tools print it; none from brokers older than 2.8.
    pub id: Option<String>,
    /// How many partitions it has.
    pub partitions: usize,
}

/// Asks the brokers for a topic. Ask with a consumer's client: for a producer's they may create it.
///
/// # Errors
/// Fails with [`UnknownTopicOrPartition`](RDKafkaErrorCode::UnknownTopicOrPartition) where there is none of this name,
/// with [`OperationTimedOut`](RDKafkaErrorCode::OperationTimedOut) where no broker answered in time, or with what the
/// broker says.
pub fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> KafkaResult<Description> {
    // Any broker will do: one that is there. By itself librdkafka would wait for the controller.
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let broker = metadata.brokers().first().map(|broker| broker.id());
    let broker = broker.ok_or(failed(RDKafkaErrorCode::BrokerNotAvailable))?;
    let event = ask(client, &CString::new(topic)?, broker, timeout)?;
    // SAFETY: the event is alive, and so is what it lends out until it is dropped.
    unsafe { answer(event.pointer.as_ptr()) }
}

/// What librdkafka made for us, given back when this is dropped.
struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// None where there was nothing to own.
    ///
    /// # Safety
    /// `pointer` is null, or points to what `destroy` frees and what no other code frees.
    unsafe fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> KafkaResult<Self> {
        let pointer = NonNull::new(pointer).ok_or(failed(RDKafkaErrorCode::OperationTimedOut))?;
        Ok(Self { pointer, destroy })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: by the contract of `new`; the pointer is not used again.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}

fn failed(code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::MetadataFetch(code)
}

/// Sends the request and waits for the answer on a queue of its own.
fn ask<C: ClientContext>(
    client: &Client<C>,
    topic: &CStr,
    broker: i32,
    timeout: Duration,
) -> KafkaResult<Owned<c::rd_kafka_event_t>> {
    let millis = |time: Duration| c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX);
    let mut names = [topic.as_ptr()];
    let kafka = client.native_ptr();
    // SAFETY: the client outlives the call; every object comes from librdkafka, is owned by exactly one `Owned` with its
    // own destructor, and lives until the call that takes it has returned. The names are copied. The request keeps its
    // own reference to the queue.
    unsafe {
        let queue = Owned::new(c::rd_kafka_queue_new(kafka), c::rd_kafka_queue_destroy)?;
        let topics = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::new(topics, c::rd_kafka_TopicCollection_destroy)?;
        let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = c::rd_kafka_AdminOptions_new(kafka, operation);
        let options = Owned::new(options, c::rd_kafka_AdminOptions_destroy)?;
        let (to, no_text) = (options.pointer.as_ptr(), std::ptr::null_mut());
        for set in [
            c::rd_kafka_AdminOptions_set_request_timeout(to, millis(timeout), no_text, 0),
            c::rd_kafka_AdminOptions_set_broker(to, broker, no_text, 0),
        ] {
            if set.is_error() {
                return Err(failed(set.into()));
            }
        }
        let queue = queue.pointer.as_ptr();
        c::rd_kafka_DescribeTopics(kafka, topics.pointer.as_ptr(), options.pointer.as_ptr(), queue);
        Owned::new(c::rd_kafka_queue_poll(queue, millis(timeout + GRACE)), c::rd_kafka_event_destroy)
    }
}

/// Reads the answer: an error of the request, an error of the topic, or its description.
///
/// # Safety
/// `event` is alive.
unsafe fn answer(event: *mut c::rd_kafka_event_t) -> KafkaResult<Description> {
    // SAFETY: everything is lent by the event, which is alive; arrays are as long as their counts say; a null is
    // looked for wherever librdkafka may give one.
    unsafe {
        let error = c::rd_kafka_event_error(event);
        if error.is_error() {
            return Err(failed(error.into()));
        }
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = if result.is_null() {
            std::ptr::null_mut()
        } else {
            c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count)
        };
        if topics.is_null() || count == 0 {
            return Err(failed(RDKafkaErrorCode::UnknownTopicOrPartition));
        }
        let topic = *topics;
        let error = c::rd_kafka_error_code(c::rd_kafka_TopicDescription_error(topic));
        if error.is_error() {
            return Err(failed(error.into()));
        }
        let mut partitions = 0;
        c::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        Ok(Description { id: id(c::rd_kafka_TopicDescription_topic_id(topic)), partitions })
    }
}

/// The id's text; all zeros say that the broker knows none.
///
/// # Safety
/// `uuid` is null or alive.
unsafe fn id(uuid: *const c::rd_kafka_Uuid_t) -> Option<String> {
    // SAFETY: checked for null, alive by contract; the text is lent by it and ends with a zero.
    unsafe {
        let known = !uuid.is_null()
            && (c::rd_kafka_Uuid_most_significant_bits(uuid), c::rd_kafka_Uuid_least_significant_bits(uuid))
                != (0, 0);
        known.then(|| CStr::from_ptr(c::rd_kafka_Uuid_base64str(uuid)).to_string_lossy().into_owned())
    }
}
