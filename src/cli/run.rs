//! `escrowmq run`: opens the store, serves, and ends cleanly.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{CliError, RunArgs};
use crate::backup::Source;
use crate::config::Config;
use crate::engine::{self, Handle, Running, StopError, Store};
use crate::io::real::{DirStorage, SystemClock};
use crate::io::{Clock, Storage};
use crate::limits;
use crate::server::admin::{Admin, Backups};
use crate::server::metrics::Metrics;
use crate::server::{Entry, Server, Shared};

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, CliError> {
    start_logs();
    let config = settings(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(connection_threads())
        .enable_all()
        .build()?;
    runtime.block_on(serve(config))
}

/// Threads for the connections: a processor is left to the engine and the log. A thread more than
/// there is work for is not free: it is woken with each request, only to find nothing.
fn connection_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.saturating_sub(1).max(1)
}

fn start_logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ESCROWMQ_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn settings(args: &RunArgs) -> Result<Config, CliError> {
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    if !args.listen.is_empty() {
        config.listen.clone_from(&args.listen);
    }
    if let Some(metrics) = &args.metrics {
        config.metrics.clone_from(metrics);
    }
    if let Some(name) = &args.name {
        config.name.clone_from(name);
    }
    config.check()?;
    Ok(config)
}

async fn serve(config: Config) -> Result<ExitCode, CliError> {
    // The address first: a second broker by mistake should not touch the store.
    let listeners = config.listeners()?;
    let connections = connections_within_files(config.limits.connections);
    let server = Server::bind(&listeners, connections).await?;
    let metrics = metrics(&config).await?;
    warn_of_open_doors(&config, &server)?;
    let entry = Entry::new(&config)?;
    let directory = DirStorage::open_or_create(&config.data)?;
    // Held until the process ends; the epoch is what makes a second owner harmless.
    let _lock = directory.try_lock()?;
    let storage: Arc<dyn Storage> = Arc::new(directory);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = open(&config, &storage, &*clock)?;
    let life = (store.report.store_id, store.report.epoch);
    let source = Source::running(&store, &storage);
    let backups = Backups { source, data: config.data.clone(), clock: Arc::clone(&clock) };
    let running = engine::start(store, Arc::clone(&clock))?;
    let handle = running.handle().clone();
    let metrics_clock = Arc::clone(&clock);
    let shared = Shared::new(&config, life, entry, (handle.clone(), clock));
    let (stop, stopping) = watch::channel(false);
    let admin = admin(&config)
        .map(|admin| tokio::spawn(admin.serve(handle.clone(), backups, stopping.clone())));
    // Who reads `ready` may ask for the end at once.
    let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut out = std::io::stdout();
    for (scheme, address) in server.addresses()? {
        let _ = writeln!(out, "listening on {scheme}://{address}");
    }
    if let Some(metrics) = metrics {
        let _ = writeln!(out, "metrics on http://{}/metrics", metrics.address()?);
        tokio::spawn(metrics.serve(handle.clone(), metrics_clock, stopping.clone()));
    }
    let _ = writeln!(out, "ready").and_then(|()| out.flush());
    let serving = tokio::spawn(server.serve(shared, stopping));
    let result = until_the_end(running, &handle, signals).await;
    let _ = stop.send(true);
    // Connections have their own, shorter limit; this one is for what nobody thought of.
    let longest = Duration::from_millis(limits::SERVER_END_MILLIS);
    if tokio::time::timeout(longest, serving).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    if let Some(admin) = admin {
        let _ = admin.await;
    }
    result?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The page of metrics, if it is wanted.
async fn metrics(config: &Config) -> Result<Option<Metrics>, CliError> {
    let Some(address) = config.metrics_address()? else { return Ok(None) };
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "metrics beyond this machine: whoever asks reads names of queues");
    }
    let metrics = Metrics::bind(address).await;
    metrics.map(Some).map_err(|error| format!("no metrics on {address}: {error}").into())
}

/// The socket for operators. A broker serves its clients without it, too.
fn admin(config: &Config) -> Option<Admin> {
    let path = super::queue::socket(&config.data);
    match Admin::bind(&path) {
        Ok(admin) => Some(admin),
        Err(error) => {
            tracing::warn!(
                path = %path.display(),
                %error,
                "no admin socket: `escrowmq queue` cannot reach this broker (the path of a socket \
                 has about 100 bytes at most: a relative path or a link may help)"
            );
            None
        }
    }
}

/// Until a signal ends the broker, or its store does.
async fn until_the_end(
    running: Running,
    handle: &Handle,
    (mut terminate, mut interrupt): (Signal, Signal),
) -> Result<(), StopError> {
    let mut ended = tokio::task::spawn_blocking(move || running.join());
    tokio::select! {
        result = &mut ended => return result.expect("joining does not panic"),
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("interrupted: stopping"),
    }
    handle.stop();
    ended.await.expect("joining does not panic")
}

fn open(config: &Config, storage: &Arc<dyn Storage>, clock: &dyn Clock) -> Result<Store, CliError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)?;
    let began = Instant::now();
    let mut told = began;
    let mut progress = |progress: crate::wal::Progress| {
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            let (read, all) = (progress.done >> 20, progress.total >> 20);
            tracing::info!("reading the log: {read} of {all} MiB");
        }
    };
    let store = engine::open_store(
        storage,
        config.wal_options(),
        &config.engine_settings(),
        u128::from_le_bytes(nonce),
        clock.wall(),
        &mut progress,
    )?;
    let report = &store.report;
    for damage in &report.damaged {
        tracing::error!(%damage, "a message's content is damaged; it will be set apart");
    }
    tracing::info!(
        name = config.name,
        data = %config.data.display(),
        epoch = report.epoch,
        records = report.records,
        took = ?began.elapsed(),
        "store open"
    );
    Ok(store)
}

/// Raises the limit of open files as far as the system lets it, and returns how many connections
/// that leaves room for: a broker that runs out of files could not read its own store.
fn connections_within_files(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit at all is `None`.
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    let room = files.saturating_sub(limits::FILES_RESERVED).max(1);
    if room < wanted {
        tracing::warn!(
            "limits.connections is {wanted}, and the limit of open files ({files}) leaves room \
             for {room}"
        );
    }
    wanted.min(room)
}

/// Without users, an address others can reach deserves a word.
fn warn_of_open_doors(config: &Config, server: &Server) -> Result<(), CliError> {
    for (_, address) in server.addresses()? {
        if !address.ip().is_loopback() && !config.security.has_users() {
            tracing::warn!(
                %address,
                "listening beyond this machine without users: whoever reaches this address may \
                 read and write every queue"
            );
        }
    }
    Ok(())
}
