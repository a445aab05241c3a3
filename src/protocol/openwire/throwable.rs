//! Java exceptions as the wire has them: names and texts, and nothing that is done with them.

use super::kinds::Field;
#[cfg(test)]
use super::sample::Sampler;
use super::{DecodeError, Reader, Text, Writer};

/// An exception and what caused it.
///
/// The name of its class is data like its message: no code is looked up by it, here or anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throwable {
    /// The exception.
    pub thrown: Thrown,
    /// What caused it, what caused that, and so on; there only with stack traces.
    pub causes: Vec<Thrown>,
}

/// One exception of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thrown {
    /// The name of its class.
    pub class: Option<Text>,
    /// What it says; Java clients want some text wherever they look for an XA code.
    pub message: Option<Text>,
    /// Where it was thrown, the innermost first; there only with stack traces.
    pub stack: Vec<StackElement>,
}

/// One line of a stack trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackElement {
    /// The class.
    pub class: Option<Text>,
    /// The method.
    pub method: Option<Text>,
    /// The source file.
    pub file: Option<Text>,
    /// The line in it, negative where it is not known.
    pub line: i32,
}

impl Throwable {
    /// An exception without stack and cause; the texts are cut where they are too long.
    #[must_use]
    pub fn new(class: &str, message: &str) -> Self {
        let (class, message) = (Some(Text::cut(class)), Some(Text::cut(message)));
        Self { thrown: Thrown { class, message, stack: Vec::new() }, causes: Vec::new() }
    }

    /// Reads the chain in a loop, so that its length needs no stack of ours.
    pub(super) fn read_chain(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let thrown = Thrown::read(reader)?;
        let mut causes = Vec::new();
        if reader.format().stack_traces {
            while reader.boolean()? {
                reader.spend(size_of::<Thrown>())?;
                causes.push(Thrown::read(reader)?);
            }
        }
        Ok(Self { thrown, causes })
    }

    pub(super) fn write_chain(&self, writer: &mut Writer) {
        self.thrown.write(writer);
        if writer.format().stack_traces {
            for cause in &self.causes {
                writer.boolean(true);
                cause.write(writer);
            }
            writer.boolean(false);
        }
    }

    #[cfg(test)]
    pub(super) fn sample_chain(sampler: &mut Sampler) -> Self {
        let causes = (0..sampler.up_to(3)).map(|_| Thrown::sample(sampler)).collect();
        Self { thrown: Thrown::sample(sampler), causes }
    }
}

impl Thrown {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (class, message) = (reader.field()?, reader.field()?);
        let mut stack = Vec::new();
        if reader.format().stack_traces {
            for _ in 0..reader.count()? {
                reader.spend(size_of::<StackElement>())?;
                let (class, method, file) = (reader.field()?, reader.field()?, reader.field()?);
                stack.push(StackElement { class, method, file, line: reader.int()? });
            }
        }
        Ok(Self { class, message, stack })
    }

    fn write(&self, writer: &mut Writer) {
        self.class.write(writer);
        self.message.write(writer);
        if writer.format().stack_traces {
            writer.count(self.stack.len());
            for element in &self.stack {
                element.class.write(writer);
                element.method.write(writer);
                element.file.write(writer);
                writer.int(element.line);
            }
        }
    }

    #[cfg(test)]
    fn sample(sampler: &mut Sampler) -> Self {
        let element = |sampler: &mut Sampler| StackElement {
            class: Field::sample(sampler),
            method: Field::sample(sampler),
            file: Field::sample(sampler),
            line: Field::sample(sampler),
        };
        Self {
            class: Field::sample(sampler),
            message: Field::sample(sampler),
            stack: (0..sampler.up_to(3)).map(|_| element(sampler)).collect(),
        }
    }
}
