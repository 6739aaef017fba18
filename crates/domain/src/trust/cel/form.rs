//! Bounds on the tree of an expression, and what it reads.

use std::collections::BTreeSet;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, SelectExpr, operators};

use crate::values::inexact::escaped;

/// The most nodes of a tree, macros expanded.
const MAX_NODES: usize = 200;
/// The deepest tree. `a && b && …` is as deep as it is long.
const MAX_DEPTH: usize = 40;
/// The most nodes that are evaluated for each element of a list.
const MAX_BODY_NODES: usize = 48;
/// The most additions. Each can make a text or list as long as both of its sides.
const MAX_ADDITIONS: usize = 8;

/// Names of variables.
pub(super) const ASSERTION: &str = "assertion";
pub(super) const ATTRIBUTE: &str = "attribute";

/// What may be called, besides operators.
const FUNCTIONS: [&str; 6] = ["contains", "endsWith", "int", "size", "startsWith", "string"];

const OPERATORS: [&str; 17] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::IN,
];

/// Why a tree is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidForm {
    /// Too many nodes.
    #[error("must be simpler: at most {MAX_NODES} operations and values")]
    TooManyNodes,
    /// Too deep.
    #[error("must be simpler: at most {MAX_DEPTH} operations within one another")]
    TooDeep,
    /// A function that is not on the list.
    #[error("must not call `{0}`; there are has, all, exists, exists_one, filter, map, {list}", list = FUNCTIONS.join(", "))]
    Function(String),
    /// A name that stands for nothing.
    #[error("must read `assertion` and `attribute`, not `{0}`")]
    Name(String),
    /// `assertion` or `attribute` other than by a name that is written out.
    #[error("must read claims and attributes one by one, as `assertion.name`, `assertion['name']` or `'name' in assertion`")]
    Whole,
    /// Several comprehensions.
    #[error("must hold at most one of all, exists, exists_one, filter and map")]
    SeveralComprehensions,
    /// Too much for each element.
    #[error("must be simpler for each element of a list: at most {MAX_BODY_NODES} operations and values")]
    BodyTooLarge,
    /// Many additions.
    #[error("must hold at most {MAX_ADDITIONS} additions, one of them for each element of a list")]
    TooManyAdditions,
    /// A map, a message, bytes.
    #[error("must not make maps, messages or bytes")]
    Construction,
}

/// What an accepted expression goes through one by one, when it does.
pub(super) fn range(expression: &IdedExpr) -> Option<&IdedExpr> {
    match &expression.expr {
        Expr::Comprehension(it) => Some(&it.iter_range),
        Expr::Select(select) => range(&select.operand),
        Expr::List(list) => list.elements.iter().find_map(range),
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).find_map(range),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => None,
    }
}

/// What is known of an accepted expression.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// Whether it has a comprehension.
    pub(super) comprehends: bool,
    /// Top-level claims it reads.
    pub(super) claims: BTreeSet<Box<str>>,
    /// Attributes it reads.
    pub(super) attributes: BTreeSet<Box<str>>,
    /// Top-level claims it compares by `!=`.
    pub(super) unequal: BTreeSet<Box<str>>,
    /// What it reads beyond the names and the number of its members or elements, as JSON Pointers (RFC 6901) into the claims.
    pub(super) whole_claims: BTreeSet<Box<str>>,
}

impl Form {
    /// Checks a tree.
    pub(super) fn of(expression: &IdedExpr) -> Result<Self, InvalidForm> {
        let mut walk = Walk::default();
        walk.node(expression, 0)?;
        Ok(walk.form)
    }
}

/// Where the walk through a tree is, and what it met.
#[derive(Default)]
struct Walk<'a> {
    form: Form,
    nodes: usize,
    additions: usize,
    comprehensions: usize,
    /// The variables of the comprehension that is being walked, and the nodes and additions of what it does for each element.
    body: Option<Body<'a>>,
}

struct Body<'a> {
    variables: Vec<&'a str>,
    nodes: usize,
    additions: usize,
}

impl<'a> Walk<'a> {
    fn node(&mut self, node: &'a IdedExpr, depth: usize) -> Result<(), InvalidForm> {
        self.form.whole_claims.extend(pointer(node).map(String::into_boxed_str));
        self.part(node, depth)
    }

    /// A node of which only a part is read: a member, an element, its size.
    fn part(&mut self, node: &'a IdedExpr, depth: usize) -> Result<(), InvalidForm> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(InvalidForm::TooManyNodes);
        }
        if depth > MAX_DEPTH {
            return Err(InvalidForm::TooDeep);
        }
        if let Some(body) = &mut self.body {
            body.nodes += 1;
            if body.nodes > MAX_BODY_NODES {
                return Err(InvalidForm::BodyTooLarge);
            }
        }
        let depth = depth + 1;
        match &node.expr {
            Expr::Literal(LiteralValue::Bytes(_)) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err(InvalidForm::Construction)
            }
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name),
            Expr::List(list) if list.optional_indices.is_empty() => self.all(&list.elements, depth),
            Expr::List(_) => Err(InvalidForm::Construction),
            Expr::Select(select) => self.select(select, depth),
            Expr::Call(call) => self.call(call, depth),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
        }
    }

    fn all(&mut self, nodes: &'a [IdedExpr], depth: usize) -> Result<(), InvalidForm> {
        nodes.iter().try_for_each(|node| self.node(node, depth))
    }

    fn name(&self, name: &str) -> Result<(), InvalidForm> {
        if name == ASSERTION || name == ATTRIBUTE {
            Err(InvalidForm::Whole)
        } else if self.body.as_ref().is_some_and(|body| body.variables.contains(&name)) {
            Ok(())
        } else {
            Err(InvalidForm::Name(name.to_owned()))
        }
    }

    /// `assertion.name`, `has(assertion.name)`, or the same of anything else.
    fn select(&mut self, select: &'a SelectExpr, depth: usize) -> Result<(), InvalidForm> {
        if self.reads(&select.operand, &select.field) { Ok(()) } else { self.part(&select.operand, depth) }
    }

    /// Notes that a claim or attribute of this name is read, when that is what `of` stands for.
    fn reads(&mut self, of: &IdedExpr, name: &str) -> bool {
        let read = match &of.expr {
            Expr::Ident(variable) if variable == ASSERTION => &mut self.form.claims,
            Expr::Ident(variable) if variable == ATTRIBUTE => &mut self.form.attributes,
            _ => return false,
        };
        read.insert(name.into());
        true
    }

    fn call(&mut self, call: &'a CallExpr, depth: usize) -> Result<(), InvalidForm> {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (operators::INDEX, [of, index]) => {
                if literal_text(index).is_some_and(|index| self.reads(of, index)) {
                    return Ok(());
                }
                // Which part it is must be known.
                if literal_step(index).is_some() {
                    self.part(of, depth)?;
                } else {
                    self.node(of, depth)?;
                }
                return self.node(index, depth);
            }
            (operators::IN, [element, of]) if literal_text(element).is_some_and(|element| self.reads(of, element)) => {
                return Ok(());
            }
            // Whether an object has a member of this name. Elements of an array that are compared with it are read one by one.
            (operators::IN, [element, of]) if literal_text(element).is_some() => {
                self.node(element, depth)?;
                return self.part(of, depth);
            }
            (operators::ADD, _) => self.addition()?,
            (operators::NOT_EQUALS, sides) => {
                for side in sides {
                    if let Some(claim) = claim_of(side) {
                        self.form.unequal.insert(claim.into());
                    }
                }
            }
            ("size", _) => {
                return call.target.iter().map(AsRef::as_ref).chain(&call.args).try_for_each(|of| self.part(of, depth));
            }
            // Put there by the macros `all` and `exists`.
            (operators::NOT_STRICTLY_FALSE, _) if self.body.is_some() => {}
            _ if OPERATORS.contains(&name) || FUNCTIONS.contains(&name) => {}
            _ => return Err(InvalidForm::Function(name.to_owned())),
        }
        if let Some(target) = &call.target {
            self.node(target, depth)?;
        }
        self.all(&call.args, depth)
    }

    fn addition(&mut self) -> Result<(), InvalidForm> {
        self.additions += 1;
        let in_body = self.body.as_mut().map_or(0, |body| {
            body.additions += 1;
            body.additions
        });
        // `map`, `filter` and `exists_one` add the element's result themselves.
        if self.additions > MAX_ADDITIONS || in_body > 2 { Err(InvalidForm::TooManyAdditions) } else { Ok(()) }
    }

    fn comprehension(&mut self, it: &'a ComprehensionExpr, depth: usize) -> Result<(), InvalidForm> {
        self.comprehensions += 1;
        self.form.comprehends = true;
        if self.comprehensions > 1 {
            return Err(InvalidForm::SeveralComprehensions);
        }
        // Evaluated once, and outside of the variables' reach.
        self.node(&it.iter_range, depth)?;
        let own = [Some(it.iter_var.as_str()), it.iter_var2.as_deref()];
        let mut variables: Vec<&str> = own.into_iter().flatten().collect();
        if let Some(taken) = variables.iter().find(|name| [ASSERTION, ATTRIBUTE].contains(*name)) {
            return Err(InvalidForm::Name((*taken).to_owned()));
        }
        variables.push(&it.accu_var);
        self.body = Some(Body { variables, nodes: 0, additions: 0 });
        for part in [&it.accu_init, &it.loop_cond, &it.loop_step, &it.result] {
            self.node(part, depth)?;
        }
        self.body = None;
        Ok(())
    }
}

/// The JSON Pointer to the claim, or part of one, that a node is.
fn pointer(node: &IdedExpr) -> Option<String> {
    let (of, step) = match &node.expr {
        Expr::Select(select) if !select.test => (&*select.operand, escaped(&select.field)),
        Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
            [of, index] => (of, literal_step(index)?),
            _ => return None,
        },
        _ => return None,
    };
    let base = if matches!(&of.expr, Expr::Ident(name) if name == ASSERTION) { String::new() } else { pointer(of)? };
    Some(format!("{base}/{step}"))
}

/// The name or number of a part, when it is written out.
fn literal_step(index: &IdedExpr) -> Option<String> {
    match &index.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(escaped(text.inner())),
        Expr::Literal(LiteralValue::Int(number)) => Some(number.inner().to_string()),
        _ => None,
    }
}

fn literal_text(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// The top-level claim that a node is.
fn claim_of(node: &IdedExpr) -> Option<&str> {
    let is_assertion = |of: &IdedExpr| matches!(&of.expr, Expr::Ident(name) if name == ASSERTION);
    match &node.expr {
        Expr::Select(select) if is_assertion(&select.operand) && !select.test => Some(&select.field),
        Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
            [of, index] if is_assertion(of) => literal_text(index),
            _ => None,
        },
        _ => None,
    }
}
