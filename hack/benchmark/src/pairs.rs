//! Pairs of runs in alternation: what the machine does to one of a pair it does to the other.

use crate::context::Context;
use crate::report::{Comparison, Pair, Sample};
use crate::target;
use crate::tools::Tool;
use crate::tools::howdah::Howdah;
use anyhow::Result;

/// Which of a pair runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Howdah.
    Howdah,
    /// The rival.
    Rival,
}

/// What is compared.
pub struct Subject<'a> {
    /// Operation.
    pub operation: &'a str,
    /// Codec.
    pub codec: &'a str,
    /// Rival.
    pub rival: &'a dyn Tool,
    /// Size of the data set.
    pub size: f64,
    /// Segments of one run; 1 for base backups.
    pub units: usize,
}

impl Subject<'_> {
    /// Its name, which `--only` is matched with.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}, {}, {}", self.operation, self.codec, self.rival.name())
    }

    /// Whether it is to run. A quick run leaves out what no target needs, unless `--only` asks for it.
    #[must_use]
    pub fn wanted(&self, context: &Context) -> bool {
        let options = &context.options;
        let needed = !options.quick || options.only.is_some() || self.operation == "archiver";
        let target = target::all()
            .any(|t| (t.operation, t.codec, t.against) == (self.operation, self.codec, self.rival.name()));
        options.wants(&self.name()) && (needed || target)
    }

    /// Who runs.
    #[must_use]
    pub fn tool(&self, side: Side) -> &dyn Tool {
        match side {
            Side::Howdah => &Howdah,
            Side::Rival => self.rival,
        }
    }

    /// Runs the pairs: the rival first in the first, Howdah first in the second, and so on.
    ///
    /// # Errors
    /// When a run fails.
    pub async fn compare(
        &self,
        context: &Context,
        mut run: impl AsyncFnMut(Side) -> Result<Sample>,
    ) -> Result<Comparison> {
        let mut pairs = Vec::new();
        for number in 0..context.options.pairs {
            let (rival, howdah) = if number % 2 == 0 {
                let rival = run(Side::Rival).await?;
                (rival, run(Side::Howdah).await?)
            } else {
                let howdah = run(Side::Howdah).await?;
                (run(Side::Rival).await?, howdah)
            };
            pairs.push(Pair { howdah, rival });
            eprintln!(
                "{} {}/{}: {:.2} s and {:.2} s",
                self.name(),
                number + 1,
                context.options.pairs,
                rival.wall,
                howdah.wall
            );
        }
        Ok(Comparison::new(self.operation, self.codec, self.rival.name(), self.size, self.units, pairs))
    }
}
