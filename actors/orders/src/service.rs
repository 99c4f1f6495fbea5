//! From a request to a reply: finds the route, asks `shop`, and puts what it says into HTTP's words.

use serde::Serialize;

use crate::body::BodyError;
use crate::problem::{Kind, Problem};
use crate::reply::Reply;
use crate::request::{self, Amount, RequestError};
use crate::route::{self, Route, Unrouted};
use crate::shop::{self, Order, Placed, ShopError};
use crate::world::World;

const JSON: &str = "application/json";

/// From this status on, it is not the client's fault and goes to the log.
const SERVER_ERROR_MIN: u16 = 500;

#[derive(Serialize)]
struct Page {
    orders: Vec<Order>,
    next: Option<i64>,
}

/// Answers one request. `body` is called where a body is wanted, at most once.
pub(crate) fn answer(
    world: &impl World,
    method: &str,
    path_with_query: &str,
    body: impl FnOnce() -> Result<Vec<u8>, BodyError>,
) -> Reply {
    let answered = match route::find(method, path_with_query) {
        Ok(Route::Place) => place(world, body),
        Ok(Route::List(query)) => list(world, query),
        Ok(Route::Find(id)) => find(world, id),
        Ok(Route::Restock) => restock(world, body),
        Ok(Route::Stock(item)) => stock(world, &item),
        Err(unrouted) => Err(unrouted.into()),
    };
    answered.unwrap_or_else(|problem| {
        if problem.kind.status() >= SERVER_ERROR_MIN {
            world.log_error(&problem.detail);
        }
        problem.into_reply()
    })
}

fn place(
    world: &impl World,
    body: impl FnOnce() -> Result<Vec<u8>, BodyError>,
) -> Result<Reply, Problem> {
    let Amount {
        item,
        quantity,
        key,
    } = request::amount(&body()?)?;
    let (status, order) = match shop::place(world, &item, quantity, key.as_deref())? {
        Placed::New(order) => (201, order),
        Placed::Before(order) => (200, order),
    };
    let location = format!("/orders/{}", order.id);
    Ok(Reply::json(status, JSON, &order).with_field("location", location))
}

fn list(world: &impl World, query: &str) -> Result<Reply, Problem> {
    let (after, limit) = request::page(query)?;
    let (orders, next) = shop::page(world, after, limit)?;
    Ok(Reply::json(200, JSON, &Page { orders, next }))
}

fn find(world: &impl World, id: i64) -> Result<Reply, Problem> {
    match shop::find(world, id)? {
        Some(order) => Ok(Reply::json(200, JSON, &order)),
        None => Err(Problem::new(
            Kind::UnknownOrder,
            format!("there is no order {id}"),
        )),
    }
}

fn restock(
    world: &impl World,
    body: impl FnOnce() -> Result<Vec<u8>, BodyError>,
) -> Result<Reply, Problem> {
    let Amount { item, quantity, .. } = request::amount(&body()?)?;
    Ok(Reply::json(
        200,
        JSON,
        &shop::restock(world, &item, quantity)?,
    ))
}

fn stock(world: &impl World, item: &str) -> Result<Reply, Problem> {
    match shop::stock(world, item)? {
        Some(stock) => Ok(Reply::json(200, JSON, &stock).with_field("cache-control", "no-store")),
        None => Err(Problem::new(
            Kind::UnknownItem,
            format!("there never was any `{item}`"),
        )),
    }
}

impl From<Unrouted> for Problem {
    fn from(unrouted: Unrouted) -> Self {
        match unrouted {
            Unrouted::UnknownPath => Self::new(
                Kind::UnknownPath,
                "the paths are /orders, /orders/<id>, /stock and /stock/<item>",
            ),
            Unrouted::MethodNotAllowed { allow } => Self {
                allow: Some(allow),
                ..Self::new(
                    Kind::MethodNotAllowed,
                    format!("the methods of this path are {allow}"),
                )
            },
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let kind = match error {
            BodyError::TooLarge => Kind::BodyTooLarge,
            BodyError::Broken(_) => Kind::BadRequest,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        Self::new(Kind::BadRequest, error.to_string())
    }
}

impl From<ShopError> for Problem {
    fn from(error: ShopError) -> Self {
        let detail = error.to_string();
        match error {
            ShopError::OutOfStock { left, .. } => Self {
                left: Some(left),
                ..Self::new(Kind::OutOfStock, detail)
            },
            ShopError::KeyUsed { .. } => Self::new(Kind::KeyUsed, detail),
            ShopError::Database(_) | ShopError::Row => Self::new(Kind::DatabaseUnavailable, detail),
        }
    }
}

#[cfg(test)]
mod tests;
