//! Reading the configuration again: because it changed, or because somebody asks for it.
//!
//! All or nothing: what has any error is refused whole, and what was in force stays so.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use huntaway_config::{Report, Source};

use super::apply::ApplyError;
use super::engine::{Engine, Stopping};
use super::files_seen::{FilesFollowed, FilesSeen, News};
use super::loaded::{Loaded, Unusable};
use super::plan::{Current, Plan, plan};
use super::portals::{changes, open_all};

/// Time after which an interrupted change is tried again; each further time takes twice as long.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often that time doubles: up to five minutes or so.
const MAX_DOUBLINGS: u32 = 6;

/// What became of the last reload.
pub(super) struct LastReload {
    /// The files that were read for it.
    files: FilesFollowed,
    /// Why it was refused, in essence.
    failure: Option<String>,
    /// When it was.
    tried: Instant,
    /// How often in a row it was interrupted.
    interruptions: u32,
    /// What it was to follow.
    source: Arc<Source>,
    /// Names of VDIs that there were since that was new, or asked for: it does not make again by itself what was deleted meanwhile.
    existed: BTreeSet<String>,
}

/// A configuration that can be followed.
#[derive(Debug)]
pub(crate) struct Planned {
    /// What it changes.
    pub(crate) plan: Plan,
    /// What may not be meant in it.
    pub(crate) warnings: String,
    /// It is written differently from what is in force, if only in a comment.
    is_other_text: bool,
}

/// A configuration that is not in force.
#[derive(Debug)]
pub(crate) enum ReloadError {
    /// It cannot be followed: nothing was changed.
    Refused(String),
    /// It was followed a part of the way; that is tried again.
    Interrupted(String),
    /// There is no time for it.
    Stopping(Stopping),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) | Self::Interrupted(text) => f.write_str(text),
            Self::Stopping(stopping) => stopping.fmt(f),
        }
    }
}

impl From<Unusable> for ReloadError {
    fn from(error: Unusable) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<ApplyError> for ReloadError {
    fn from(error: ApplyError) -> Self {
        let text = error.to_string();
        match error {
            ApplyError::Refused(_) => Self::Refused(text),
            ApplyError::Interrupted { .. } => Self::Interrupted(text),
        }
    }
}

impl LastReload {
    /// The configuration in force was read when the files were as they were `seen`.
    pub(super) fn begin(seen: FilesSeen, source: Arc<Source>) -> Self {
        let (files, tried) = (FilesFollowed::new(seen), Instant::now());
        Self { files, failure: None, tried, interruptions: 0, source, existed: BTreeSet::new() }
    }
}

impl LastReload {
    /// Whether to try again what was interrupted.
    fn is_due(&self) -> bool {
        self.tried.elapsed()
            >= RETRY_AFTER * 2_u32.pow(self.interruptions.saturating_sub(1).min(MAX_DOUBLINGS))
    }
}

impl Engine {
    /// Reads the configuration again and carries it out.
    ///
    /// # Errors
    /// See [`ReloadError`]; it is logged.
    pub(crate) async fn reload(&self) -> Result<Planned, ReloadError> {
        let work = async {
            let mut last = self.changing.lock().await;
            let (_, read) = self.read_again(&mut last).await;
            self.follow(&mut last, Asked::Explicitly, read).await
        };
        self.unless_stopping(work).await.map_err(ReloadError::Stopping)?
    }

    /// Does the same if a file may have changed and is left alone by now, or if it was interrupted a while ago. What was
    /// refused before, and is the same, is not told again.
    pub(crate) async fn reload_if_changed(&self) {
        let work = async {
            let mut last = self.changing.lock().await;
            let mut files = last.files.clone();
            let (files, news) = blocking(move || {
                let news = files.look();
                (files, news)
            })
            .await;
            last.files = files;
            if self.is_unfinished() {
                self.remember_vdis(&mut last);
            }
            let is_due = self.is_unfinished() && last.is_due();
            if news == News::Changed || (is_due && news == News::None) {
                // what changed just while it was read may be half of what somebody writes
                if let (News::None | News::Changed, read) = self.read_again(&mut last).await {
                    // it tells by itself how it went
                    drop(self.follow(&mut last, Asked::ByTheFiles, read).await);
                }
            }
            // disks may have failed meanwhile
            self.tell_what_is_served(last.failure.is_none());
        };
        // if it stops, the next start reads the file as it is then
        let _ = self.unless_stopping(work).await;
    }

    /// What another configuration would change. Changes nothing.
    ///
    /// # Errors
    /// [`ReloadError::Refused`].
    pub(crate) async fn plan_for(&self, name: String, text: String) -> Result<Planned, ReloadError> {
        let base = self.base().to_owned();
        let wanted = blocking(move || Loaded::of(&name, &text, &base)).await?;
        let plan = self.plan_to(&wanted, &BTreeSet::new())?;
        let open = self.portals.all();
        // they are closed at once: this only tells whether they can be had
        open_all(&changes(&open, &wanted.config.node.portals).added).map_err(|problems| {
            ReloadError::Refused(Report::new(Arc::clone(&wanted.config.source), problems).to_string())
        })?;
        Ok(Planned { warnings: warnings(&plan, &wanted), plan, is_other_text: self.is_other_text(&wanted) })
    }

    fn is_other_text(&self, wanted: &Loaded) -> bool {
        self.served().config.source.text != wanted.config.source.text
    }

    fn plan_to(&self, wanted: &Loaded, existed: &BTreeSet<String>) -> Result<Plan, ReloadError> {
        let (served, state) = (self.served(), self.storage.state());
        let free_bytes = self.storage.free_bytes();
        let missing_disk = self.storage.missing_disk();
        let missing_disk = missing_disk.as_deref();
        let is_unfinished = self.is_unfinished();
        let is_clustered = self.storage.is_clustered();
        let served = Some(&*served);
        let has_disk = |directory: &Path| self.storage.has_disk(&self.base().join(directory));
        let current = Current {
            served,
            state: &state,
            free_bytes,
            missing_disk,
            is_unfinished,
            is_clustered,
            has_disk: &has_disk,
            existed,
        };
        plan(current, wanted).map_err(|report| match is_unfinished && !self.is_other_text(wanted) {
            // initiators see what it says already
            true => ReloadError::Interrupted(report.to_string()),
            false => ReloadError::Refused(report.to_string()),
        })
    }

    /// What there is now, for the next time.
    pub(super) fn remember_vdis(&self, last: &mut LastReload) {
        last.existed.extend(self.storage.state().vdis().map(|vdi| vdi.name.to_string()));
    }

    /// Reads the files, and looks whether they are still as they were.
    async fn read_again(&self, last: &mut LastReload) -> (News, Result<Loaded, Unusable>) {
        let file = self.file.clone();
        let (files, news, read) = blocking(move || {
            let (seen, read) = Loaded::read(&file);
            let mut files = FilesFollowed::new(seen);
            let news = files.look();
            (files, news, read)
        })
        .await;
        (last.files, last.tried) = (files, Instant::now());
        (news, read)
    }

    async fn follow(
        &self,
        last: &mut LastReload,
        asked: Asked,
        read: Result<Loaded, Unusable>,
    ) -> Result<Planned, ReloadError> {
        if let Ok(Loaded { config, .. }) = &read
            && (asked == Asked::Explicitly || config.source != last.source)
        {
            last.source = Arc::clone(&config.source);
            last.existed.clear();
        }
        let done = match read {
            Ok(loaded) => self.change_to(loaded, &last.existed).await,
            Err(error) => Err(error.into()),
        };
        self.remember_vdis(last);
        self.conclude(last, asked, &done);
        self.tell_what_is_served(last.failure.is_none());
        done
    }

    async fn change_to(&self, wanted: Loaded, existed: &BTreeSet<String>) -> Result<Planned, ReloadError> {
        let plan = self.plan_to(&wanted, existed)?;
        let planned =
            Planned { warnings: warnings(&plan, &wanted), plan, is_other_text: self.is_other_text(&wanted) };
        let wanted = Arc::new(wanted);
        if planned.plan.is_empty() {
            // it may be written differently
            self.served.store(wanted);
        } else {
            self.tell_reloading();
            self.carry_out(&planned.plan, &wanted).await?;
            if let Err(error) = self.logging.set_level(&wanted.config.node.log.level) {
                tracing::warn!(%error, "the log level stays as it is");
            }
        }
        Ok(planned)
    }

    /// Logs and counts how a reload went.
    fn conclude(&self, last: &mut LastReload, asked: Asked, done: &Result<Planned, ReloadError>) {
        last.interruptions = match done {
            Err(ReloadError::Interrupted(_)) => last.interruptions.saturating_add(1),
            _ => 0,
        };
        let failure = done.as_ref().err().map(gist);
        let is_news = asked == Asked::Explicitly || failure != last.failure;
        let is_other_text = done.as_ref().is_ok_and(|planned| planned.is_other_text);
        match done {
            Ok(Planned { plan, warnings, .. }) if !plan.is_empty() || is_news || is_other_text => {
                if plan.is_empty() {
                    tracing::info!("the configuration is in force already");
                } else {
                    tracing::info!("configuration applied, {} lines:\n{plan}", plan.len());
                }
                if !warnings.is_empty() {
                    tracing::warn!("in the configuration:\n{warnings}");
                }
                self.metrics.succeeded();
            }
            Err(error @ ReloadError::Interrupted(_)) if is_news => {
                tracing::error!(
                    "configuration carried out in part, and tried again, at first after 5 seconds:\n{error}"
                );
                self.metrics.failed();
            }
            Err(error) if is_news => {
                tracing::error!("configuration refused, the one before it stays in force:\n{error}");
                self.metrics.failed();
            }
            _ => {}
        }
        last.failure = failure;
    }
}

/// Why a reload takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Somebody asked.
    Explicitly,
    /// A file looks as if it had changed.
    ByTheFiles,
}

/// What a failure is, for comparison with the next one. How many bytes exactly were lacking is no news.
fn gist(error: &ReloadError) -> String {
    let text = error.to_string();
    match error {
        ReloadError::Interrupted(_) => text.chars().filter(|character| !character.is_ascii_digit()).collect(),
        ReloadError::Refused(_) | ReloadError::Stopping(_) => text,
    }
}

fn warnings(plan: &Plan, wanted: &Loaded) -> String {
    let warnings = plan.warnings(wanted);
    if warnings.is_empty() { String::new() } else { warnings.to_string() }
}

/// Does `work`, which waits for a disk, where that keeps nobody else waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // the runtime ends: nobody waits any more
            Err(_) => std::future::pending().await,
        },
    }
}
