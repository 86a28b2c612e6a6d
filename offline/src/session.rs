//! DataFusion as this crate uses it: types exactly as stored, and a bound on memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, ParquetReadOptions, SessionConfig, SessionContext};
use url::Url;

/// How much DataFusion may use at once; only sorts need much, and they spill.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes of memory that sorts share.
    pub(crate) memory: usize,
    /// How many parts of a query run at once. With one, rows keep the order they are stored in.
    pub(crate) parallel: usize,
    /// Where sorts spill to; the system's folder for temporary files if none.
    pub(crate) spill: Option<PathBuf>,
}

impl Limits {
    /// For reading in stored order.
    pub(crate) const IN_ORDER: Self = Self { memory: 256 << 20, parallel: 1, spill: None };
}

/// A session under limits. Sorts beyond the memory given spill to temporary files.
pub(crate) fn session(limits: &Limits) -> Result<SessionContext, DataFusionError> {
    let mut config = SessionConfig::new()
        .with_target_partitions(limits.parallel.max(1))
        .with_repartition_file_scans(limits.parallel > 1)
        // A column whose least and greatest value are equal is read as that value alone, NaNs and all: Parquet's
        // statistics leave them out.
        .with_collect_statistics(false);
    let parquet = &mut config.options_mut().execution.parquet;
    // Columns come out as they went in: no views, no binary read as text, no metadata of other writers.
    parquet.schema_force_view_types = false;
    parquet.binary_as_string = false;
    let pool = Arc::new(FairSpillPool::new(limits.memory));
    let mut runtime = RuntimeEnvBuilder::new().with_memory_pool(pool);
    if let Some(folder) = &limits.spill {
        runtime = runtime.with_temp_file_path(folder);
    }
    Ok(SessionContext::new_with_config_rt(config, runtime.build_arc()?))
}

/// Reads Parquet files as one table. Columns of `schema` that a file lacks are null.
pub(crate) async fn read_parquet(
    session: &SessionContext,
    files: &[PathBuf],
    schema: &Schema,
) -> Result<DataFrame, DataFusionError> {
    let urls = files.iter().map(|file| file_url(file)).collect::<Result<Vec<_>, _>>()?;
    session.read_parquet(urls, ParquetReadOptions::default().schema(schema)).await
}

/// A path as an URL, so that no character of it is taken for a pattern.
pub(crate) fn file_url(path: &Path) -> Result<String, DataFusionError> {
    let absolute = std::path::absolute(path)?;
    let url = Url::from_file_path(&absolute);
    let url = url.map_err(|()| DataFusionError::Plan(format!("{} is no path", absolute.display())))?;
    Ok(url.into())
}
