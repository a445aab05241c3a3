//! Figures per round, and how they are told.

/// Figures of one kind, one per round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// No figure yet.
    pub(crate) const EMPTY: Self = Self(Vec::new());

    /// One figure.
    pub(crate) fn of(value: f64) -> Self {
        Self(vec![value])
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// This series divided by another, round by round: both sides of one round met the same
    /// disturbances.
    pub(crate) fn per(&self, base: &Self) -> Self {
        assert_eq!(self.0.len(), base.0.len(), "every round measures both sides");
        Self(self.0.iter().zip(&base.0).map(|(value, base)| value / base).collect())
    }

    pub(crate) fn median(&self) -> f64 {
        quantile(&mut self.0.clone(), 0.5)
    }

    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// The value below which a share of the values lies. Sorts them.
///
/// # Panics
/// Without values: a round that measured nothing is a defect of the benchmark.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() as f64 * share) as usize).min(values.len() - 1)]
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

pub(crate) fn headline(what: &str, rounds: usize) {
    println!("\n{what} ({rounds} rounds: median, least, most)");
    // What the neighbours did says how much a figure is worth.
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let load = load.split(' ').next().unwrap_or_default();
        println!("  load {load} on {processors} processors, this benchmark included");
    }
}

/// One line of figures.
pub(crate) fn figures(name: &str, unit: &str, series: &Series) {
    let digits = if series.median() < 100.0 { 2 } else { 0 };
    println!(
        "  {name:<44} {:>10.digits$} {:>10.digits$} {:>10.digits$}  {unit}",
        series.median(),
        series.least(),
        series.most(),
    );
}

/// The line that counts: a ratio and whether its median is what it should be.
///
/// # Panics
/// As [`hold`] does.
pub(crate) fn verdict(name: &str, ratio: &Series, goal: Goal) {
    figures(name, "ratio", ratio);
    judge(name, ratio.median(), goal);
}

/// A single figure and whether it is what it should be.
///
/// # Panics
/// When a run for figures (`cargo bench`) misses the goal, so that its process fails and what it
/// started is ended. Small sizes measure nothing, and miss nothing.
pub(crate) fn hold(name: &str, unit: &str, value: f64, goal: Goal) {
    figures(name, unit, &Series::of(value));
    judge(name, value, goal);
}

/// Several goals of one run: all are told before any that is missed ends it.
///
/// # Panics
/// As [`hold`] does.
pub(crate) fn hold_all(goals: &[(&str, &str, Series, Goal)]) {
    for (name, unit, series, _) in goals {
        figures(name, unit, series);
    }
    let judged = goals.iter().map(|(name, _, series, goal)| tell(name, series.median(), *goal));
    end_if(&judged.flatten().collect::<Vec<_>>());
}

fn judge(name: &str, value: f64, goal: Goal) {
    end_if(&tell(name, value, goal).into_iter().collect::<Vec<_>>());
}

/// Says whether a goal is met; in what words it is not.
fn tell(name: &str, value: f64, goal: Goal) -> Option<String> {
    let met = goal.is_met(value);
    println!("  goal: {name} {goal}: {}", if met { "met" } else { "MISSED" });
    (!met).then(|| format!("{name} is {value:.2}; the goal is {goal}"))
}

fn end_if(missed: &[String]) {
    let for_figures = std::env::args().any(|arg| arg == "--bench");
    assert!(missed.is_empty() || !for_figures, "{}", missed.join("\n"));
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "at most {limit}"),
            Self::AtLeast(limit) => write!(f, "at least {limit}"),
        }
    }
}
