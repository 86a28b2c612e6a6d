//! Payments and labels as Parquet files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::TimestampMillisecondArray;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::error::ArrowError;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use tidemark_kernel::{Span, Time};
use tidemark_offline::durable::create_folder;

use super::Payment;
use crate::rows::{self, WriteError};

/// Writes payments, which are in order of receipt, one file for each day of receipt: `payments-2026-10-01.parquet`.
/// Gives the files in order.
///
/// # Errors
/// Fails where the folder or a file cannot be written.
pub fn write_payments(folder: &Path, payments: &[Payment]) -> Result<Vec<PathBuf>, WriteError> {
    create_folder(folder)?;
    let day = |payment: &Payment| payment.received_at.floor(Span::from_secs(86_400));
    let days = payments.chunk_by(|payment, next| day(payment) == day(next));
    let files = days.map(|payments| {
        let date = payments[0].received_at.to_string();
        let path = folder.join(format!("payments-{}.parquet", &date[..10]));
        write(&path, table(payments))?;
        Ok(path)
    });
    files.collect()
}

/// Writes a sample of payments as labels: the keys and request field of the service `fraud`, `label_time` (the
/// instant of the payment, which therefore does not see itself) and `is_fraud`, in order of time.
///
/// # Errors
/// Fails where the file cannot be written.
pub fn write_labels(path: &Path, payments: &[Payment], count: usize, seed: u64) -> Result<(), WriteError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x1abe1);
    let chosen = sample(&mut random, payments.len(), count.min(payments.len())).into_iter();
    let mut chosen: Vec<&Payment> = chosen.map(|index| &payments[index]).collect();
    chosen.sort_by_key(|payment| payment.created_at);
    write(path, labels(&chosen))
}

fn write(path: &Path, rows: Result<RecordBatch, ArrowError>) -> Result<(), WriteError> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    rows::write(path, rows, Some(properties))
}

/// The declared fields of the source, in their order.
fn table(payments: &[Payment]) -> Result<RecordBatch, ArrowError> {
    let rows = || payments.iter();
    RecordBatch::try_from_iter_with_nullable([
        (
            "payment_id",
            Arc::new(rows().map(|row| Some(row.payment_id)).collect::<Int64Array>()) as ArrayRef,
            true,
        ),
        ("user_id", Arc::new(rows().map(|row| row.user_id).collect::<Int64Array>()), true),
        ("merchant_id", Arc::new(rows().map(|row| row.merchant_id).collect::<Int64Array>()), true),
        ("card_id", Arc::new(rows().map(|row| row.card_id.as_deref()).collect::<StringArray>()), true),
        ("amount", Arc::new(rows().map(|row| row.amount).collect::<Float64Array>()), true),
        ("currency", Arc::new(rows().map(|row| Some(row.currency)).collect::<StringArray>()), true),
        ("status", Arc::new(rows().map(|row| Some(row.status)).collect::<StringArray>()), true),
        ("country", Arc::new(rows().map(|row| row.country).collect::<StringArray>()), true),
        ("created_at", times(rows().map(|row| row.created_at)), true),
        ("received_at", times(rows().map(|row| row.received_at)), true),
    ])
}

fn labels(payments: &[&Payment]) -> Result<RecordBatch, ArrowError> {
    let rows = || payments.iter();
    RecordBatch::try_from_iter_with_nullable([
        (
            "payment_id",
            Arc::new(rows().map(|row| Some(row.payment_id)).collect::<Int64Array>()) as ArrayRef,
            true,
        ),
        ("user_id", Arc::new(rows().map(|row| row.user_id).collect::<Int64Array>()), true),
        ("merchant_id", Arc::new(rows().map(|row| row.merchant_id).collect::<Int64Array>()), true),
        ("card_id", Arc::new(rows().map(|row| row.card_id.as_deref()).collect::<StringArray>()), true),
        ("amount", Arc::new(rows().map(|row| row.amount).collect::<Float64Array>()), true),
        ("label_time", times(rows().map(|row| row.created_at)), true),
        ("is_fraud", Arc::new(rows().map(|row| Some(row.is_fraud)).collect::<BooleanArray>()), true),
    ])
}

fn times(times: impl Iterator<Item = Time>) -> ArrayRef {
    let times = TimestampMillisecondArray::from_iter_values(times.map(Time::millis));
    Arc::new(times.with_timezone("UTC"))
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::{ErrorKind, Explain};

    use super::*;

    #[test]
    fn the_cause_tells_who_can_help() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        write_labels(&file, &[], 1, 1).unwrap();
        let error = write_payments(&file.join("payments"), &[]).unwrap_err();
        assert_eq!((error.kind(), error.help()), (ErrorKind::Environment, None), "{error}");
        let error = write_labels(&file.join("labels.parquet"), &[], 1, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
