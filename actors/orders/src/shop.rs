//! Orders and stock in the database.
//!
//! An order and the stock it takes are one statement, so there is no moment at which one is there without the other,
//! and no two orders that both see the last piece: the second waits for the row and then looks at it again.

use serde::Serialize;

use crate::world::{DatabaseError, Field, Param, World};

/// Makes the tables. Any number of actors may try at once: the lock, held to the end of the batch, lets one after the other
/// look for itself.
const TABLES: &str = "\
SELECT pg_advisory_xact_lock(7814096517309325811);
CREATE TABLE IF NOT EXISTS stock (
    item text PRIMARY KEY,
    quantity bigint NOT NULL CHECK (quantity >= 0)
);
CREATE TABLE IF NOT EXISTS orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item text NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    key text UNIQUE,
    created timestamptz NOT NULL DEFAULT now()
);";

const PLACE: &str = "\
WITH taken AS (
    UPDATE stock SET quantity = quantity - $2::bigint
    WHERE item = $1::text AND quantity >= $2::bigint
    RETURNING item
), placed AS (
    INSERT INTO orders (item, quantity, key)
    SELECT item, $2::bigint, $3::text FROM taken
    RETURNING id, item, quantity, created
)
SELECT id, item, quantity, to_char(created AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM placed";

const BY_KEY: &str = "\
SELECT id, item, quantity, to_char(created AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
FROM orders WHERE key = $1::text";

const BY_ID: &str = "\
SELECT id, item, quantity, to_char(created AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
FROM orders WHERE id = $1::bigint";

const PAGE: &str = "\
SELECT id, item, quantity, to_char(created AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
FROM orders WHERE id > $1::bigint ORDER BY id LIMIT $2::bigint";

const STOCK: &str = "SELECT item, quantity FROM stock WHERE item = $1::text";

const RESTOCK: &str = "\
INSERT INTO stock (item, quantity) VALUES ($1::text, $2::bigint)
ON CONFLICT (item) DO UPDATE SET quantity = stock.quantity + excluded.quantity
RETURNING item, quantity";

/// The database knows no such table.
const UNDEFINED_TABLE: &str = "42P01";

/// Another row has that key.
const UNIQUE_VIOLATION: &str = "23505";

/// An order as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Order {
    /// Grows from order to order.
    pub(crate) id: i64,
    /// What was ordered.
    pub(crate) item: String,
    /// How many of it.
    pub(crate) quantity: i64,
    /// When, in UTC.
    pub(crate) created: String,
}

/// How many of an item there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Stock {
    /// The item.
    pub(crate) item: String,
    /// How many are left.
    pub(crate) quantity: i64,
}

/// What became of an order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is there now.
    New(Order),
    /// It was there already, under the same key.
    Before(Order),
}

/// Why nothing was done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShopError {
    /// There is less than was ordered.
    #[error("{left} of `{item}` are left")]
    OutOfStock {
        /// What was ordered.
        item: String,
        /// How many there are.
        left: i64,
    },
    /// The key stands for another order.
    #[error("the key was used for order {id}, which is another one")]
    KeyUsed {
        /// The other order.
        id: i64,
    },
    /// The database did not answer, or refused.
    #[error("the database did not do as asked: {0}")]
    Database(#[from] DatabaseError),
    /// The database answered something else than it was asked for.
    #[error("the database gave back a row of another form")]
    Row,
}

/// Takes an order. With a key, asking again gives back the same order.
pub(crate) fn place(
    world: &impl World,
    item: &str,
    quantity: i64,
    key: Option<&str>,
) -> Result<Placed, ShopError> {
    let key_param = key.map_or(Param::Null, Param::Text);
    let params = [Param::Text(item), Param::Number(quantity), key_param];
    let placed = match run(world, PLACE, &params) {
        Err(error) if error.sqlstate() == Some(UNIQUE_VIOLATION) => Vec::new(),
        placed => placed?,
    };
    if let Some(row) = placed.into_iter().next() {
        return Ok(Placed::New(order(row)?));
    }
    // The key was used, or there is too little. Which of them, the key's own order says first.
    let before = match key {
        Some(key) => one(run(world, BY_KEY, &[Param::Text(key)])?, order)?,
        None => None,
    };
    match before {
        Some(before) if before.item == item && before.quantity == quantity => {
            Ok(Placed::Before(before))
        }
        Some(before) => Err(ShopError::KeyUsed { id: before.id }),
        None => Err(ShopError::OutOfStock {
            item: item.to_owned(),
            left: stock(world, item)?.map_or(0, |stock| stock.quantity),
        }),
    }
}

/// The order of this number.
pub(crate) fn find(world: &impl World, id: i64) -> Result<Option<Order>, ShopError> {
    one(run(world, BY_ID, &[Param::Number(id)])?, order)
}

/// Orders after a number, at most `limit`, and where the next page begins.
pub(crate) fn page(
    world: &impl World,
    after: i64,
    limit: i64,
) -> Result<(Vec<Order>, Option<i64>), ShopError> {
    // One more than asked for tells whether there is a next page.
    let rows = run(
        world,
        PAGE,
        &[Param::Number(after), Param::Number(limit + 1)],
    )?;
    let mut orders = rows.into_iter().map(order).collect::<Result<Vec<_>, _>>()?;
    let wanted = usize::try_from(limit).unwrap_or(0);
    let more = orders.len() > wanted;
    orders.truncate(wanted);
    let next = orders.last().filter(|_| more).map(|order| order.id);
    Ok((orders, next))
}

/// What there is of an item; `None` for one that was never there.
pub(crate) fn stock(world: &impl World, item: &str) -> Result<Option<Stock>, ShopError> {
    one(run(world, STOCK, &[Param::Text(item)])?, stock_row)
}

/// Adds to what there is.
pub(crate) fn restock(world: &impl World, item: &str, quantity: i64) -> Result<Stock, ShopError> {
    let params = [Param::Text(item), Param::Number(quantity)];
    one(run(world, RESTOCK, &params)?, stock_row)?.ok_or(ShopError::Row)
}

/// Runs a statement, and makes the tables where they are missing: whoever comes first to an empty database.
fn run(
    world: &impl World,
    sql: &str,
    params: &[Param<'_>],
) -> Result<Vec<Vec<Field>>, DatabaseError> {
    match world.query(sql, params) {
        Err(error) if error.sqlstate() == Some(UNDEFINED_TABLE) => {
            world.batch(TABLES)?;
            world.query(sql, params)
        }
        answer => answer,
    }
}

fn one<T>(
    rows: Vec<Vec<Field>>,
    read: impl FnOnce(Vec<Field>) -> Result<T, ShopError>,
) -> Result<Option<T>, ShopError> {
    rows.into_iter().next().map(read).transpose()
}

fn order(row: Vec<Field>) -> Result<Order, ShopError> {
    match <[Field; 4]>::try_from(row) {
        Ok(
            [
                Field::Number(id),
                Field::Text(item),
                Field::Number(quantity),
                Field::Text(created),
            ],
        ) => Ok(Order {
            id,
            item,
            quantity,
            created,
        }),
        _ => Err(ShopError::Row),
    }
}

fn stock_row(row: Vec<Field>) -> Result<Stock, ShopError> {
    match <[Field; 2]>::try_from(row) {
        Ok([Field::Text(item), Field::Number(quantity)]) => Ok(Stock { item, quantity }),
        _ => Err(ShopError::Row),
    }
}
