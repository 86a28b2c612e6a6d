//! Lookups: many entities per call over the online state, for services that can be swapped while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use parking_lot::RwLock;
pub use tidemark_host::Clock;
use tidemark_host::Host;
use tidemark_kernel::error::Explain;
use tidemark_kernel::plan::FeaturePlan;
use tidemark_kernel::service::ServicePlan;
use tidemark_kernel::time::Time;
use tidemark_kernel::value::Value;
use tidemark_store::OnlineStore;

use crate::admission::{Admission, Admitted, RowLimits};
use crate::answer::{Instant, RowAnswer, answer_row};
use crate::damages::Damages;
use crate::derive::Answered;
use crate::error::{LookupError, RowError, help};
use crate::failures::Failures;
use crate::metrics::Metrics;
use crate::served::{Catalogue, DefinitionError, Served};
use crate::states::{Entities, States};

/// One question: a value for each key and each request field of the service, by name.
pub type Row = BTreeMap<String, Value>;

/// One result for each row of a call, in their order.
pub type Results = Vec<Result<RowAnswer, RowError>>;

/// How many rows are answered before other calls get a turn: a few milliseconds' worth.
pub(crate) const TURN: usize = 64;

/// For how many rows derived features are evaluated at once, likewise.
const DERIVED_TURN: usize = 1024;

/// Answers lookups from an online store.
pub struct Lookups {
    states: States,
    host: Host,
    catalogue: RwLock<Arc<Catalogue>>,
    admission: Admission,
    metrics: Metrics,
    failures: Failures,
    damages: Damages,
}

impl Lookups {
    /// Lookups over `store` with no service yet, on the real machine with this wall clock.
    #[must_use]
    pub fn new(store: Arc<dyn OnlineStore>, clock: Clock) -> Self {
        Self::on(Host::real(clock), store)
    }

    /// Lookups over `store` with no service yet, on any machine.
    #[must_use]
    pub fn on(host: Host, store: Arc<dyn OnlineStore>) -> Self {
        Self {
            states: States::new(store),
            host,
            catalogue: RwLock::default(),
            admission: Admission::new(RowLimits::default()),
            metrics: Metrics::default(),
            failures: Failures::default(),
            damages: Damages::default(),
        }
    }

    /// The same, with other limits for the rows that are asked for over HTTP and gRPC. Callers in the process have none.
    #[must_use]
    pub fn limited(self, rows: RowLimits) -> Self {
        Self { admission: Admission::new(rows), ..self }
    }

    /// Serves these services and no others from now on. Calls under way end with the services they began with.
    ///
    /// # Errors
    /// Fails, and changes nothing, where one of them was not checked.
    pub fn serve(&self, plans: impl IntoIterator<Item = Arc<ServicePlan>>) -> Result<(), DefinitionError> {
        let named = |plan: Arc<ServicePlan>| Ok((plan.name.clone(), Arc::new(Served::new(plan)?)));
        let catalogue = plans.into_iter().map(named).collect::<Result<Catalogue, DefinitionError>>()?;
        *self.catalogue.write() = Arc::new(catalogue);
        Ok(())
    }

    /// The services, in the order of their names.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<Served>> {
        self.catalogue().values().cloned().collect()
    }

    /// The service of that name.
    ///
    /// # Errors
    /// [`LookupError::UnknownService`], with a suggestion.
    pub fn service(&self, name: &str) -> Result<Arc<Served>, LookupError> {
        let catalogue = self.catalogue();
        catalogue.get(name).cloned().ok_or_else(|| {
            let help = help(name, catalogue.keys().map(String::as_str));
            LookupError::UnknownService { name: name.to_owned(), help }
        })
    }

    /// Answers every feature of a service for each row, as of `at`, or of now (see [`answer`](Self::answer)).
    ///
    /// # Errors
    /// Fails as a whole where the service is unknown, and as [`answer`](Self::answer) does.
    pub async fn lookup(
        &self,
        service: &str,
        rows: Vec<Row>,
        at: Option<Time>,
    ) -> Result<Results, LookupError> {
        match self.service(service) {
            Ok(served) => self.answer(&served, rows, at).await,
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Answers every feature of a service for each row.
    ///
    /// A row is asked about `at`; without it about the first tick after the clock, or up to a minute later where that is
    /// the earliest instant that its entities can still be asked about. An entity whose horizon in a view is later than
    /// that instant moves nothing: the features of that view are null and too early, while the others are answered. Only
    /// where that holds for all views of the row, it is answered for the latest of their horizons. An entity that no event
    /// names, or whose key is null, has empty windows.
    ///
    /// # Errors
    /// Fails as a whole where a row lacks a key or request field, names anything else or has a value of another
    /// type, where `at` is no instant that an event can have, where a view is being backfilled or changed, and where
    /// the store fails. A row alone fails where `at` is before the horizons of all its views, and where its stored state
    /// is damaged.
    pub async fn answer(
        &self,
        served: &Served,
        rows: Vec<Row>,
        at: Option<Time>,
    ) -> Result<Results, LookupError> {
        let begun = self.host.stopwatch();
        let results = self.try_answer(served, rows, at).await.map_err(|error| self.failed(error))?;
        self.metrics.answered(&served.plan().name, &results, begun.elapsed());
        self.damages.tell(&results);
        Ok(results)
    }

    /// Whether every view of every service can be looked up.
    ///
    /// # Errors
    /// Says which one cannot, and why.
    pub async fn ready(&self) -> Result<(), LookupError> {
        let services = self.services();
        let views = services.iter().flat_map(|served| &served.plan().views);
        // Services and roles share views.
        let views: BTreeMap<&str, &FeaturePlan> =
            views.map(|view| (view.plan.view.as_str(), view.plan.as_ref())).collect();
        self.states.check_readable(&views.into_values().collect::<Vec<_>>()).await
    }

    /// Waits until there is room for a call of so many rows, and keeps it until what this gives is dropped.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub(crate) async fn admit(&self, rows: usize) -> Result<Admitted, LookupError> {
        self.admission.admit(&self.host, rows).await
    }

    /// How many rows are answered at once.
    pub(crate) const fn admission(&self) -> &Admission {
        &self.admission
    }

    /// What this crate counts.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts and logs a call that failed as a whole.
    pub(crate) fn failed(&self, error: LookupError) -> LookupError {
        self.metrics.failed(error.kind());
        self.failures.tell(&error, self.host.now());
        error
    }

    /// The machine that lookups are answered on.
    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.read())
    }

    async fn try_answer(
        &self,
        served: &Served,
        rows: Vec<Row>,
        at: Option<Time>,
    ) -> Result<Results, LookupError> {
        let instant = self.instant(at)?;
        let bind = |(index, row)| served.bind(index, row);
        let asked = rows.into_iter().enumerate().map(bind).collect::<Result<Vec<_>, _>>()?;
        let entities = served.entities(&asked);
        let reads = served.plan().views.iter().zip(entities).map(|(view, keys)| self.states.read(view, keys));
        let mut views: Vec<Entities<'_>> = try_join_all(reads).await?;
        let mut results = Results::with_capacity(asked.len());
        for row in 0..asked.len() {
            if row % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            // Of each view, also where one is damaged: an entity is kept as long as a later row asks about it.
            let entities: Vec<_> = views.iter_mut().map(|view| view.of_row(row)).collect();
            let entities = entities.into_iter().collect::<Result<Vec<_>, RowError>>();
            results.push(entities.and_then(|entities| answer_row(served.plan(), &entities, instant)));
        }
        self.derive(served, &asked, &mut results).await?;
        Ok(results)
    }

    fn instant(&self, at: Option<Time>) -> Result<Instant, LookupError> {
        match at {
            None => Ok(Instant::NotBefore(self.host.now().next())),
            Some(at) if at.is_valid() => Ok(Instant::At(at)),
            Some(at) => Err(LookupError::invalid_at(at)),
        }
    }

    async fn derive(
        &self,
        served: &Served,
        asked: &[Vec<Value>],
        results: &mut Results,
    ) -> Result<(), LookupError> {
        let service = &served.plan().name;
        let turns = asked.chunks(DERIVED_TURN).zip(results.chunks_mut(DERIVED_TURN));
        for (turn, (asked, results)) in turns.enumerate() {
            if turn > 0 {
                tokio::task::yield_now().await;
            }
            let rows = asked.iter().zip(results);
            let rows =
                rows.filter_map(|(asked, result)| Some(Answered { asked, answer: result.as_mut().ok()? }));
            let mut rows: Vec<Answered<'_>> = rows.collect();
            let failed = served
                .derivation()
                .extend(&mut rows)
                .map_err(|source| LookupError::Derived { service: service.clone(), source })?;
            self.metrics.derived_failed(service, failed);
        }
        Ok(())
    }
}
