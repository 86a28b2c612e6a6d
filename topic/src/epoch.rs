//! Leader epochs: reading that of a record, and setting that of a position to seek to.

use std::ffi::CString;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as c;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;

/// The epoch of the leader that wrote a record; none where the broker or the record's format is older than epochs.
#[must_use]
pub fn leader_epoch(message: &BorrowedMessage<'_>) -> Option<i32> {
    // SAFETY: the message is alive as long as it is borrowed, and librdkafka only reads from it.
    let epoch = unsafe { c::rd_kafka_message_leader_epoch(message.ptr()) };
    (epoch >= 0).then_some(epoch)
}

/// Sets the leader epoch of a partition in a list. A consumer that [seeks](rdkafka::consumer::Consumer::seek_partitions) to
/// such a list has the broker compare: the offset must not lie behind the end of the epoch.
///
/// # Errors
/// Fails with [`UnknownPartition`](RDKafkaErrorCode::UnknownPartition) where the list does not have the partition.
pub fn set_leader_epoch(
    list: &mut TopicPartitionList,
    topic: &str,
    partition: i32,
    epoch: i32,
) -> KafkaResult<()> {
    let topic = CString::new(topic)?;
    // SAFETY: the list is alive and borrowed mutably, so that nothing else has a reference to its elements; the one found is
    // checked for null and not used after the call.
    unsafe {
        let element = c::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if element.is_null() {
            return Err(KafkaError::SetPartitionOffset(RDKafkaErrorCode::UnknownPartition));
        }
        c::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
    }
    Ok(())
}
