//! CEL, cut down until no accepted expression can harm whoever evaluates it (SECURITY 32).
//!
//! Expressions read the token as `assertion` and mapped attributes as `attribute`, Google's names; those of an identity profile read
//! the attributes of a run as `attribute`, before there is a token. The `cel` crate evaluates what it is given: 207 bytes can cost seconds and a gigabyte, and a flat sum of 3,000 bytes exhausts the stack. So what may be
//! written is bounded before it is kept:
//!
//! - the text, before the parser sees it ([`lexical`]): its length, the number of tokens, the depth of brackets;
//! - the tree ([`form`]): number of nodes and depth, an allow-list of functions, one comprehension that is not nested, few
//!   additions (which could make ever longer texts), and claims that are read by name, so that what an expression reads is known;
//! - the input ([`Assertion`]): arrays beyond a length are not read, and objects not gone through;
//! - numbers, in the text and in the input: one that 64 bits do not represent exactly is an error, since a comparison with it would
//!   also hold for another number.
//!
//! An expression that fails on a token refuses that token. Equality is CEL's: `assertion.groups != 'admin'` is true of every array.

mod form;
mod lexical;
mod value;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, OnceLock};

use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Program, Value};
use serde::{Deserialize, Serialize};
use serde_json::Map;

pub use form::InvalidForm;
pub use lexical::InvalidText;

use form::Form;
use value::Members;

use crate::values::inexact::InexactNumbers;

/// The one environment that every expression is compiled and evaluated in. It knows more functions than [`form`] lets through.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

/// The environment whose parser expands `has`, `all`, `exists`, `exists_one`, `map` and `filter`.
static COMPILER: LazyLock<Env> = LazyLock::new(|| Env::stdlib().with_optional_support(false));

/// An expression that was checked and compiled. Equal texts are equal expressions; cloning is cheap.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CelExpression(Arc<Compiled>);

struct Compiled {
    source: Box<str>,
    program: Program,
    form: Form,
    /// What it comes to, once it was asked for, where it reads nothing: the default of an attribute mostly is a plain value.
    constant: OnceLock<Result<Value, CelFailure>>,
}

/// Why a text is not an acceptable expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCel {
    /// Refused before it was parsed.
    #[error(transparent)]
    Text(#[from] InvalidText),
    /// Not CEL.
    #[error("is not CEL: {0}")]
    Syntax(String),
    /// CEL, but more than is accepted.
    #[error(transparent)]
    Form(#[from] InvalidForm),
}

/// Why an expression gave no result for a token. Says nothing of the token's values, so it can be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CelFailure {
    /// A claim, attribute or key that is not there.
    #[error("it reads something that the token does not have")]
    Absent,
    /// An operation on values that it is not for.
    #[error("it uses a value of the token as a type that it is not")]
    WrongType,
    /// Overflow, division by zero, an index out of bounds, a text that is no number.
    #[error("it computes what has no result")]
    NoResult,
    /// The token has a number there of which the value is not known exactly.
    #[error("it reads a number that cannot be represented exactly: it has too many digits")]
    Inexact,
    /// The token has an array that is longer than what is read.
    #[error("it reads an array of more than {} elements", value::MAX_ELEMENTS)]
    TooLarge,
    /// What it goes through one by one is an object, whose members have no order: what comes of it could differ each time.
    #[error("it goes through an object as if it were an array")]
    Unordered,
    /// The result is of another type than is needed.
    #[error("its result is not of the type that is needed")]
    ResultType,
}

impl CelExpression {
    /// The most bytes of an expression.
    pub const MAX_BYTES: usize = lexical::MAX_BYTES;

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.0.source
    }

    /// The top-level claims that it reads. There is no other way for it to read one.
    pub fn claims(&self) -> &BTreeSet<Box<str>> {
        &self.0.form.claims
    }

    /// The mapped attributes that it reads.
    pub fn attributes(&self) -> &BTreeSet<Box<str>> {
        &self.0.form.attributes
    }

    /// The claims that it compares by `!=`, which is true of every value of another type (SECURITY 25).
    pub fn unequal_claims(&self) -> &BTreeSet<Box<str>> {
        &self.0.form.unequal
    }

    /// Whether the condition that this expression is holds for the token.
    pub fn holds(&self, assertion: &Assertion, attributes: &Map<String, serde_json::Value>) -> Result<bool, CelFailure> {
        match self.evaluate(assertion, attributes)? {
            Value::Bool(holds) => Ok(holds),
            _ => Err(CelFailure::ResultType),
        }
    }

    /// The value that this expression maps the token to: text, a whole number, true or false, or a list of texts.
    pub fn map(&self, assertion: &Assertion) -> Result<serde_json::Value, CelFailure> {
        value::mapped(&self.evaluate(assertion, &Map::new())?).ok_or(CelFailure::ResultType)
    }

    /// As [`CelExpression::holds`], where there are attributes and no token.
    pub fn holds_for_attributes(&self, attributes: &Map<String, serde_json::Value>) -> Result<bool, CelFailure> {
        self.holds(&Assertion::new(&Map::new()), attributes)
    }

    /// As [`CelExpression::map`], where there are attributes and no token.
    pub fn map_attributes(&self, attributes: &Map<String, serde_json::Value>) -> Result<serde_json::Value, CelFailure> {
        value::mapped(&self.evaluate(&Assertion::new(&Map::new()), attributes)?).ok_or(CelFailure::ResultType)
    }

    fn evaluate(&self, assertion: &Assertion, attributes: &Map<String, serde_json::Value>) -> Result<Value, CelFailure> {
        if self.claims().is_empty() && self.attributes().is_empty() {
            self.0.constant.get_or_init(|| self.evaluate_anew(assertion, attributes)).clone()
        } else {
            self.evaluate_anew(assertion, attributes)
        }
    }

    fn evaluate_anew(&self, assertion: &Assertion, attributes: &Map<String, serde_json::Value>) -> Result<Value, CelFailure> {
        let members = &assertion.0;
        if self.claims().iter().any(|claim| members.too_large.contains(&**claim)) {
            return Err(CelFailure::TooLarge);
        }
        if self.0.form.whole_claims.iter().any(|pointer| members.has_inexact_in(pointer)) {
            return Err(CelFailure::Inexact);
        }
        // There is no way for it to tell the absence of the others.
        let read = attributes.iter().filter(|(name, _)| self.attributes().contains(name.as_str()));
        let variables = Variables { assertion: members, attribute: Members::of(read, &InexactNumbers::default()) };
        let result = self.execute(&variables);
        if variables.assertion.take_touched() || variables.attribute.take_touched() { Err(CelFailure::Inexact) } else { result }
    }

    fn execute(&self, variables: &Variables<'_>) -> Result<Value, CelFailure> {
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(variables);
        if self.0.form.comprehends
            && let Some(range) = form::range(self.0.program.expression())
            && matches!(context.resolve(range), Ok(Value::Map(_)))
        {
            return Err(CelFailure::Unordered);
        }
        self.0.program.execute(&context).map_err(|error| failure(&error))
    }
}

/// What an expression reads.
struct Variables<'a> {
    assertion: &'a Members,
    attribute: Members,
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable {
            form::ASSERTION => Some(CowVal::Borrowed(&self.assertion.map)),
            form::ATTRIBUTE => Some(CowVal::Borrowed(&self.attribute.map)),
            _ => None,
        }
    }
}

/// The claims of one token as CEL sees them. Made once for all expressions that a token is judged by.
pub struct Assertion(Members);

impl Assertion {
    /// The claims of a token, all of whose numbers are what the token says.
    pub fn new(members: &Map<String, serde_json::Value>) -> Self {
        Self::with_inexact(members, &InexactNumbers::default())
    }

    /// The claims of a token, of which these numbers are not what the token says. An expression that reads one of them fails.
    pub fn with_inexact(members: &Map<String, serde_json::Value>, inexact: &InexactNumbers) -> Self {
        Self(Members::of(members.iter(), inexact))
    }
}

fn failure(error: &ExecutionError) -> CelFailure {
    match error {
        ExecutionError::NoSuchKey(_) | ExecutionError::UndeclaredReference(_) => CelFailure::Absent,
        ExecutionError::DivisionByZero(_)
        | ExecutionError::RemainderByZero(_)
        | ExecutionError::Overflow(..)
        | ExecutionError::IndexOutOfBounds(_)
        | ExecutionError::FunctionError { .. } => CelFailure::NoResult,
        _ => CelFailure::WrongType,
    }
}

fn compile(source: &str) -> Result<CelExpression, InvalidCel> {
    lexical::check(source)?;
    let program =
        on_a_large_stack(|| parse(source)).unwrap_or_else(|| Err(InvalidCel::Syntax("it cannot be read".to_owned())))?;
    let form = Form::of(program.expression())?;
    Ok(CelExpression(Arc::new(Compiled { source: source.into(), program, form, constant: OnceLock::new() })))
}

fn parse(source: &str) -> Result<Program, InvalidCel> {
    COMPILER.compile(source).map_err(|errors| {
        // The first is where to look; those behind it are mostly its consequences.
        InvalidCel::Syntax(errors.errors.first().map(|error| error.msg.clone()).unwrap_or_default())
    })
}

/// What `work` gives; `None` when it panics. The parser takes more of the stack for what [`lexical`] admits than the threads of
/// an async runtime have, so it gets a stack of its own, of which only what is used takes memory.
fn on_a_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    const STACK_BYTES: usize = 32 * 1024 * 1024;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("cel".to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        thread.ok()?.join().ok()
    })
}

impl FromStr for CelExpression {
    type Err = InvalidCel;

    fn from_str(source: &str) -> Result<Self, InvalidCel> {
        compile(source)
    }
}

impl TryFrom<String> for CelExpression {
    type Error = InvalidCel;

    fn try_from(source: String) -> Result<Self, InvalidCel> {
        compile(&source)
    }
}

impl From<CelExpression> for String {
    fn from(expression: CelExpression) -> String {
        expression.as_str().to_owned()
    }
}

impl PartialEq for CelExpression {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.as_str() == other.as_str()
    }
}

impl Eq for CelExpression {}

impl std::hash::Hash for CelExpression {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for CelExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CelExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests;
