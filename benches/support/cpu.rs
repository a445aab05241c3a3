//! Processor time: of a process by the names of its threads, and of the calling thread.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time the calling thread has had on a processor: unlike the time of day, it does not count what
/// neighbours took meanwhile.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Time a whole process has had on processors, threads that have ended included; nothing where the
/// system does not tell. In steps of 10 ms.
pub(crate) fn process_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in brackets, may hold anything; user and system time are the 12th and 13th behind.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind.split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.map_while(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// Time on a processor since each thread began, summed over threads of one name.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuTimes(BTreeMap<String, Duration>);

impl CpuTimes {
    /// Those of a process now, or nothing where the system does not tell.
    pub(crate) fn of(pid: u32) -> Self {
        let mut times = BTreeMap::new();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        for task in tasks.flatten() {
            let read = |name| std::fs::read_to_string(task.path().join(name));
            // A thread may end between the listing and the reading.
            let (Ok(name), Ok(stat)) = (read("comm"), read("schedstat")) else { continue };
            let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
            *times.entry(name.trim().to_owned()).or_default() +=
                Duration::from_nanos(nanos.unwrap_or_default());
        }
        Self(times)
    }

    /// What was used since an earlier look.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |name: &str| earlier.0.get(name).copied().unwrap_or_default();
        let used =
            |(name, now): (&String, &Duration)| (name.clone(), now.saturating_sub(before(name)));
        Self(self.0.iter().map(used).collect())
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, time) in &other.0 {
            *self.0.entry(name.clone()).or_default() += *time;
        }
    }

    /// All threads together.
    pub(crate) fn total(&self) -> Duration {
        self.0.values().sum()
    }

    /// Prints what each of `messages` took, by thread, the hungriest first.
    pub(crate) fn print(&self, whose: &str, messages: usize) {
        let per = |time: Duration| time.as_secs_f64() * 1e6 / messages as f64;
        let all = self.total();
        println!("  {whose:<44} {:>10.2} us of processor a message, of which", per(all));
        let mut threads: Vec<_> = self.0.iter().filter(|(_, time)| !time.is_zero()).collect();
        threads.sort_by_key(|(_, time)| std::cmp::Reverse(**time));
        for (name, time) in threads {
            println!("    {name:<42} {:>10.2} us", per(*time));
        }
    }
}
