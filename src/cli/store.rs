//! `escrowmq store`: looks into a store without changing it.

use std::path::Path;
use std::process::ExitCode;

use super::CliError;

pub(super) fn verify(_dir: &Path) -> Result<ExitCode, CliError> {
    Ok(ExitCode::SUCCESS)
}

pub(super) fn dump(_dir: &Path) -> Result<ExitCode, CliError> {
    Ok(ExitCode::SUCCESS)
}
