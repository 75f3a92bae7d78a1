//! What things cost: `infra/prices.json`, dated and with its sources.
//!
//! On-demand prices of us-east-1 without taxes, free tiers and savings plans. Other regions are usually dearer.

use std::sync::OnceLock;

use serde::Deserialize;

/// All known prices.
#[derive(Debug, Deserialize)]
pub struct Prices {
    /// The region they are of.
    pub region: String,
    /// When they were looked up, as `2026-06`.
    pub as_of: String,
    /// How many hours a month is counted as.
    pub hours_per_month: f64,
    prices: Vec<Price>,
}

/// One price.
#[derive(Debug, Deserialize)]
pub struct Price {
    /// What for, as `alb` or `db.t4g.micro`.
    pub name: String,
    /// US dollars.
    pub usd: f64,
    /// Of what: an hour, a month, a gigabyte.
    pub per: String,
    /// Where the number is from.
    pub source: String,
}

impl Prices {
    /// The table.
    ///
    /// # Panics
    /// When `infra/prices.json` is not what it should be; a test would have seen it.
    #[must_use]
    pub fn table() -> &'static Self {
        static TABLE: OnceLock<Prices> = OnceLock::new();
        TABLE.get_or_init(|| {
            serde_json::from_str(include_str!("../../../../infra/prices.json")).expect("infra/prices.json is prices")
        })
    }

    /// The price of one thing, when it is known.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Price> {
        self.prices.iter().find(|price| price.name == name)
    }

    /// What one of it costs in a month, in US dollars; prices per gigabyte are left as they are.
    #[must_use]
    pub fn monthly(&self, name: &str) -> Option<f64> {
        let price = self.find(name)?;
        Some(if price.per == "hour" { price.usd * self.hours_per_month } else { price.usd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_price_has_a_source() {
        let table = Prices::table();
        assert!(!table.prices.is_empty());
        for price in &table.prices {
            assert!(price.usd > 0.0 && price.source.starts_with("https://"), "{price:?}");
            assert!(["hour", "month", "gigabyte"].contains(&price.per.as_str()), "{price:?}");
        }
        let alb = table.monthly("alb").expect("the balancer's price");
        assert!((alb - 16.425).abs() < 1e-9, "{alb}");
    }
}
