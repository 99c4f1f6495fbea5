//! A world for tests: answers that were prepared, in their order, and a record of what was asked.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::world::{DatabaseError, Field, Param, World};

type Answer = Result<Vec<Vec<Field>>, DatabaseError>;

/// A database that says what it was told to say.
#[derive(Default)]
pub(crate) struct FakeWorld {
    answers: RefCell<VecDeque<Answer>>,
    /// Statements, each with its parameters; batches without.
    pub(crate) asked: RefCell<Vec<(String, Vec<String>)>>,
    pub(crate) logged: RefCell<Vec<String>>,
}

impl FakeWorld {
    /// A database with these answers.
    pub(crate) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: RefCell::new(answers.into_iter().collect()),
            ..Self::default()
        }
    }

    fn next(&self, sql: &str, params: Vec<String>) -> Answer {
        self.asked.borrow_mut().push((sql.to_owned(), params));
        let answer = self.answers.borrow_mut().pop_front();
        answer.unwrap_or_else(|| panic!("no answer was prepared for {sql}"))
    }
}

impl World for FakeWorld {
    fn query(&self, sql: &str, params: &[Param<'_>]) -> Answer {
        self.next(
            sql,
            params.iter().map(|param| format!("{param:?}")).collect(),
        )
    }

    fn batch(&self, sql: &str) -> Result<(), DatabaseError> {
        self.next(sql, Vec::new()).map(drop)
    }

    fn log_error(&self, message: &str) {
        self.logged.borrow_mut().push(message.to_owned());
    }
}

/// What the provider says when the database refuses with this code.
pub(crate) fn refused(code: &str) -> Answer {
    Err(DatabaseError {
        reason: format!("no (SQLSTATE {code})"),
    })
}

/// A row of an order.
pub(crate) fn order(id: i64, item: &str, quantity: i64) -> Vec<Field> {
    let created = Field::Text("2026-01-02T03:04:05.000000Z".to_owned());
    vec![
        Field::Number(id),
        Field::Text(item.to_owned()),
        Field::Number(quantity),
        created,
    ]
}

/// A row of the stock.
pub(crate) fn stock(item: &str, quantity: i64) -> Vec<Field> {
    vec![Field::Text(item.to_owned()), Field::Number(quantity)]
}
