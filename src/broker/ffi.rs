//! The part of librdkafka that the safe bindings leave out: taking many messages of one partition at a time, topic
//! identities, topic configurations, new topics, leader epochs. All of the crate's unsafe code is here, but for one setting
//! of the allocator (`job/allocator.rs`), and nothing else is.
//!
//! Every pointer comes from librdkafka and is freed by the function that its header (`rdkafka.h`) names for it. Clients are
//! alive for as long as a reference to them is held; librdkafka itself is thread safe.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::client::NativeClient;
use rdkafka::types::RDKafkaErrorCode;

/// What librdkafka says about a request that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Its code.
    pub code: RDKafkaErrorCode,
    /// Its text.
    pub text: String,
}

impl Failure {
    fn new(code: sys::rd_kafka_resp_err_t, text: *const c_char) -> Self {
        let described = if text.is_null() {
            // SAFETY: a static string.
            unsafe { CStr::from_ptr(sys::rd_kafka_err2str(code)) }
        } else {
            // SAFETY: not null, and valid as long as the event or message it belongs to, which the caller holds.
            unsafe { CStr::from_ptr(text) }
        };
        Self { code: code.into(), text: described.to_string_lossy().into_owned() }
    }

    fn of(code: sys::rd_kafka_resp_err_t) -> Option<Self> {
        (code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| Self::new(code, ptr::null()))
    }
}

/// A queue of librdkafka's.
pub(super) struct Queue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: queues are locked inside librdkafka; any thread may serve them.
unsafe impl Send for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it was made by a function that says to free it so, and is not used after.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

impl Queue {
    fn new(client: &NativeClient) -> Option<Self> {
        // SAFETY: the client is alive.
        NonNull::new(unsafe { sys::rd_kafka_queue_new(client.ptr()) }).map(Self)
    }

    /// The queue of one partition, taken out of the consumer's own: its messages come here and nowhere else. Must be called
    /// before the partition is assigned. `None` if the topic's name is not one.
    pub fn of_partition(client: &NativeClient, topic: &str, partition: i32) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the client is alive, the name ends with a zero byte.
        let queue = unsafe { sys::rd_kafka_queue_get_partition(client.ptr(), topic.as_ptr(), partition) };
        let queue = Self(NonNull::new(queue)?);
        // SAFETY: no destination means that the queue is not forwarded.
        unsafe { sys::rd_kafka_queue_forward(queue.0.as_ptr(), ptr::null_mut()) };
        Some(queue)
    }

    /// Hands over the messages that are there, until `take` returns false: that message was the last of this call. Waits
    /// for none. What was taken out of the queue and not handed over stays in `batch` for the next call.
    ///
    /// Messages leave the queue a few at a time: those that have left are not counted by the bound on what is read ahead.
    pub fn drain(&self, batch: &mut Batch, take: &mut dyn FnMut(&Message<'_>) -> bool) {
        loop {
            while let Some(message) = batch.next() {
                // SAFETY: it came from the queue, is freed below and nowhere else.
                let goes_on = take(&Message(unsafe { message.as_ref() }));
                // SAFETY: as above; nothing that was lent from it is left.
                unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) };
                if !goes_on {
                    return;
                }
            }
            batch.refill(self);
            if batch.is_empty() {
                return;
            }
        }
    }

    fn wait(&self, timeout: Duration) -> Option<Event> {
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive.
        NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.0.as_ptr(), timeout) }).map(Event)
    }
}

/// Messages that have left a queue and were not handed over yet.
pub(super) struct Batch {
    messages: Vec<*mut sys::rd_kafka_message_t>,
    handed: usize,
}

// SAFETY: messages belong to who took them out of the queue; any thread may free them.
unsafe impl Send for Batch {}

impl Batch {
    /// Messages that leave the queue at a time.
    const SIZE: usize = 512;

    /// None yet.
    pub fn new() -> Self {
        Self { messages: Vec::with_capacity(Self::SIZE), handed: 0 }
    }

    fn is_empty(&self) -> bool {
        self.handed == self.messages.len()
    }

    fn next(&mut self) -> Option<NonNull<sys::rd_kafka_message_t>> {
        let message = self.messages.get(self.handed).copied()?;
        self.handed += 1;
        NonNull::new(message)
    }

    fn refill(&mut self, queue: &Queue) {
        self.messages.resize(Self::SIZE, ptr::null_mut());
        self.handed = 0;
        // SAFETY: there is room for as many pointers as are said.
        let got = unsafe { sys::rd_kafka_consume_batch_queue(queue.0.as_ptr(), 0, self.messages.as_mut_ptr(), Self::SIZE) };
        self.messages.truncate(usize::try_from(got).unwrap_or(0));
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        while let Some(message) = self.next() {
            // SAFETY: it came from a queue and was not handed over.
            unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) }
        }
    }
}

/// A message, or an event of a partition, while librdkafka lends it.
pub(super) struct Message<'a>(&'a sys::rd_kafka_message_t);

impl<'a> Message<'a> {
    /// What went wrong, if this is not a record. The end of the partition is such an event.
    pub fn failure(&self) -> Option<Failure> {
        // SAFETY: for events the payload is a text; it is valid as long as the message.
        let text = || unsafe { sys::rd_kafka_message_errstr(self.0) };
        (self.0.err != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| Failure::new(self.0.err, text()))
    }

    /// Whether this is the end of the partition, and nothing else.
    pub fn is_end(&self) -> bool {
        self.0.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF
    }

    /// Its offset; of the end of a partition, the offset of the next record to come.
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// The log's timestamp, milliseconds since 1970 UTC.
    pub fn timestamp(&self) -> i64 {
        // SAFETY: the message is valid; the kind of timestamp is not asked for.
        unsafe { sys::rd_kafka_message_timestamp(self.0, ptr::null_mut()) }
    }

    /// The epoch of the leader that wrote it, if the cluster tells.
    pub fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is valid.
        Some(unsafe { sys::rd_kafka_message_leader_epoch(self.0) }).filter(|epoch| *epoch >= 0)
    }

    /// Its key.
    pub fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka says where the key is, and it is there as long as the message.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// Its payload.
    pub fn payload(&self) -> Option<&'a [u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Calls `each` with its headers, in order. The number of them, or `None` if there are none.
    pub fn headers(&self, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) -> Option<usize> {
        let mut headers = ptr::null_mut();
        // SAFETY: the headers belong to the message and live as long.
        let code = unsafe { sys::rd_kafka_message_headers(self.0, &raw mut headers) };
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: names end with a zero byte; values have the length that is given.
        unsafe {
            let count = sys::rd_kafka_header_cnt(headers);
            for index in 0..count {
                let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
                sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut length);
                each(CStr::from_ptr(name).to_bytes(), bytes(value, length));
            }
            Some(count)
        }
    }
}

/// # Safety
/// `start` is null, or `length` bytes are there for as long as `'a`.
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
}

struct Event(NonNull<sys::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: it came from a queue, and is not used after.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

impl Event {
    fn failure(&self) -> Option<Failure> {
        // SAFETY: the event is alive, and its text as long as it.
        let (code, text) =
            unsafe { (sys::rd_kafka_event_error(self.0.as_ptr()), sys::rd_kafka_event_error_string(self.0.as_ptr())) };
        (code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| Failure::new(code, text))
    }
}

/// A topic as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// Its identity: another topic of the same name has another.
    pub id: String,
    /// Its partitions, in order.
    pub partitions: Vec<i32>,
}

fn timed_out() -> Failure {
    Failure::new(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT, ptr::null())
}

/// How an administrative request is made.
struct AdminOptions(*mut sys::rd_kafka_AdminOptions_t);

impl AdminOptions {
    /// Given up after `timeout`: nobody waits for it any longer.
    fn new(client: &NativeClient, kind: sys::rd_kafka_admin_op_t, timeout: Duration) -> Self {
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client is alive; a reason for a value that is refused is not asked for.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(client.ptr(), kind);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, ptr::null_mut(), 0);
            Self(options)
        }
    }
}

impl Drop for AdminOptions {
    fn drop(&mut self) {
        // SAFETY: it was made above; requests have copied it.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0) }
    }
}

/// Asks the cluster for a topic (`DescribeTopics`).
pub(super) fn describe_topic(client: &NativeClient, topic: &str, timeout: Duration) -> Result<Described, Failure> {
    let queue = Queue::new(client).ok_or_else(timed_out)?;
    let name = CString::new(topic).map_err(|_| timed_out())?;
    let mut names = [name.as_ptr()];
    let options = AdminOptions::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
    // SAFETY: one name, which lives until the call returns; the collection is freed after its use.
    unsafe {
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        sys::rd_kafka_DescribeTopics(client.ptr(), topics, options.0, queue.0.as_ptr());
        sys::rd_kafka_TopicCollection_destroy(topics);
    }
    let event = queue.wait(timeout).ok_or_else(timed_out)?;
    if let Some(failure) = event.failure() {
        return Err(failure);
    }
    // SAFETY: what a result leads to lives as long as the event.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        let mut count = 0;
        let topics =
            if result.is_null() { ptr::null_mut() } else { sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) };
        if topics.is_null() || count != 1 {
            return Err(timed_out());
        }
        let described = *topics;
        let error = sys::rd_kafka_TopicDescription_error(described);
        if !error.is_null() {
            let code = sys::rd_kafka_error_code(error);
            if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(Failure::new(code, sys::rd_kafka_error_string(error)));
            }
        }
        let id = CStr::from_ptr(sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(described)));
        let mut count = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(described, &raw mut count);
        let number = |index| sys::rd_kafka_TopicPartitionInfo_partition(*partitions.add(index));
        let mut partitions: Vec<i32> = (0..count).map(number).collect();
        partitions.sort_unstable();
        Ok(Described { id: id.to_string_lossy().into_owned(), partitions })
    }
}

/// Asks the cluster for the configuration of a topic (`DescribeConfigs`).
pub(super) fn topic_configs(
    client: &NativeClient,
    topic: &str,
    timeout: Duration,
) -> Result<BTreeMap<String, String>, Failure> {
    let queue = Queue::new(client).ok_or_else(timed_out)?;
    let name = CString::new(topic).map_err(|_| timed_out())?;
    let options = AdminOptions::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout);
    // SAFETY: the resource is freed after its use.
    unsafe {
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        let resource = sys::rd_kafka_ConfigResource_new(kind, name.as_ptr());
        let mut resources = [resource];
        sys::rd_kafka_DescribeConfigs(client.ptr(), resources.as_mut_ptr(), 1, options.0, queue.0.as_ptr());
        sys::rd_kafka_ConfigResource_destroy(resource);
    }
    let event = queue.wait(timeout).ok_or_else(timed_out)?;
    if let Some(failure) = event.failure() {
        return Err(failure);
    }
    let mut configs = BTreeMap::new();
    // SAFETY: what a result leads to lives as long as the event.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(event.0.as_ptr());
        let mut count = 0;
        let resources = if result.is_null() {
            ptr::null_mut()
        } else {
            sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count)
        };
        if resources.is_null() || count != 1 {
            return Err(timed_out());
        }
        let resource = *resources;
        if let Some(failure) = Failure::of(sys::rd_kafka_ConfigResource_error(resource)) {
            return Err(failure);
        }
        let mut count = 0;
        let entries = sys::rd_kafka_ConfigResource_configs(resource, &raw mut count);
        for index in 0..count {
            let entry = *entries.add(index);
            let (name, value) = (sys::rd_kafka_ConfigEntry_name(entry), sys::rd_kafka_ConfigEntry_value(entry));
            if !name.is_null() && !value.is_null() {
                let text = |text| CStr::from_ptr(text).to_string_lossy().into_owned();
                configs.insert(text(name), text(value));
            }
        }
    }
    Ok(configs)
}

/// Asks the cluster to make a topic (`CreateTopics`). −1 for either number leaves it to the cluster.
pub(super) fn create_topic(
    client: &NativeClient,
    topic: &str,
    (partitions, replicas): (i32, i32),
    configs: &[(&str, &str)],
    timeout: Duration,
) -> Result<(), Failure> {
    let queue = Queue::new(client).ok_or_else(timed_out)?;
    let name = CString::new(topic).map_err(|_| timed_out())?;
    let text = |text: &str| CString::new(text).map_err(|_| timed_out());
    let configs = configs.iter().map(|(name, value)| Ok((text(name)?, text(value)?))).collect::<Result<Vec<_>, Failure>>()?;
    let options = AdminOptions::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout);
    let mut reason = [0 as c_char; 256];
    // SAFETY: the reason has room for its length; the topic is freed after its use, names and values are copied by it.
    unsafe {
        let wanted = sys::rd_kafka_NewTopic_new(name.as_ptr(), partitions, replicas, reason.as_mut_ptr(), reason.len());
        if wanted.is_null() {
            return Err(Failure::new(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__INVALID_ARG, reason.as_ptr()));
        }
        configs.iter().for_each(|(name, value)| {
            sys::rd_kafka_NewTopic_set_config(wanted, name.as_ptr(), value.as_ptr());
        });
        let mut topics = [wanted];
        sys::rd_kafka_CreateTopics(client.ptr(), topics.as_mut_ptr(), 1, options.0, queue.0.as_ptr());
        sys::rd_kafka_NewTopic_destroy(wanted);
    }
    let event = queue.wait(timeout).ok_or_else(timed_out)?;
    if let Some(failure) = event.failure() {
        return Err(failure);
    }
    // SAFETY: what a result leads to lives as long as the event.
    unsafe {
        let result = sys::rd_kafka_event_CreateTopics_result(event.0.as_ptr());
        let mut count = 0;
        let topics =
            if result.is_null() { ptr::null_mut() } else { sys::rd_kafka_CreateTopics_result_topics(result, &raw mut count) };
        if topics.is_null() || count != 1 {
            return Err(timed_out());
        }
        let made = *topics;
        match sys::rd_kafka_topic_result_error(made) {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(Failure::new(code, sys::rd_kafka_topic_result_error_string(made))),
        }
    }
}

/// Asks the cluster to forget a consumer group (`DeleteGroups`).
pub(super) fn delete_group(client: &NativeClient, group: &str, timeout: Duration) -> Result<(), Failure> {
    let queue = Queue::new(client).ok_or_else(timed_out)?;
    let name = CString::new(group).map_err(|_| timed_out())?;
    let options = AdminOptions::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETEGROUPS, timeout);
    // SAFETY: the name is copied, the request is freed after its use.
    unsafe {
        let wanted = sys::rd_kafka_DeleteGroup_new(name.as_ptr());
        let mut groups = [wanted];
        sys::rd_kafka_DeleteGroups(client.ptr(), groups.as_mut_ptr(), 1, options.0, queue.0.as_ptr());
        sys::rd_kafka_DeleteGroup_destroy(wanted);
    }
    let event = queue.wait(timeout).ok_or_else(timed_out)?;
    if let Some(failure) = event.failure() {
        return Err(failure);
    }
    // SAFETY: what a result leads to lives as long as the event.
    unsafe {
        let result = sys::rd_kafka_event_DeleteGroups_result(event.0.as_ptr());
        let mut count = 0;
        let groups =
            if result.is_null() { ptr::null_mut() } else { sys::rd_kafka_DeleteGroups_result_groups(result, &raw mut count) };
        if groups.is_null() || count != 1 {
            return Err(timed_out());
        }
        let error = sys::rd_kafka_group_result_error(*groups);
        if error.is_null() {
            return Ok(());
        }
        let code = sys::rd_kafka_error_code(error);
        Failure::of(code).map_or(Ok(()), |_| Err(Failure::new(code, sys::rd_kafka_error_string(error))))
    }
}

/// Says for every element of a list which leader wrote the record before its offset.
pub(super) fn set_leader_epoch(list: &mut TopicPartitionList, epoch: i32) {
    // SAFETY: the list holds `cnt` elements.
    unsafe {
        let raw = &*list.ptr();
        (0..usize::try_from(raw.cnt).unwrap_or(0))
            .for_each(|index| sys::rd_kafka_topic_partition_set_leader_epoch(raw.elems.add(index), epoch));
    }
}
