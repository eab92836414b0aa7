"""Every feature by name: kind, rule and when it is null; docs/features.md is made from it."""

from typing import Literal, NamedTuple


class Feature(NamedTuple):
    """One row of the table."""

    name: str
    kind: Literal["float", "count", "flag", "code"]
    rule: str
    null: str


FEATURES = (
    Feature("amount", "float", "as sent", "never"),
    Feature("rolling_avg_7d", "float", "mean amount in (t - 7 d, t]", "no history in the window"),
    Feature("user_avg_amount_30d", "float", "mean amount in (t - 30 d, t]", "no history in the window"),
    Feature("amount_to_avg_ratio", "float", "amount / rolling_avg_7d", "rolling_avg_7d is null"),
    Feature(
        "amount_zscore",
        "float",
        "(amount - mean) / standard deviation over 30 d, ddof 0",
        "fewer than two entries, or all amounts equal",
    ),
    Feature("user_txn_count_1h", "count", "transactions in (t - 1 h, t]", "never"),
    Feature("user_txn_count_24h", "count", "transactions in (t - 24 h, t]", "never"),
    Feature("user_txn_count_7d", "count", "transactions in (t - 7 d, t]", "never"),
    Feature("user_txn_count_30d", "count", "transactions in (t - 30 d, t]", "never"),
    Feature("user_amount_sum_1h", "float", "sum of amounts in (t - 1 h, t]", "never"),
    Feature("user_amount_sum_24h", "float", "sum of amounts in (t - 24 h, t]", "never"),
    Feature("unique_countries_24h", "count", "distinct known countries in (t - 24 h, t]", "never"),
    Feature("unique_merchants_24h", "count", "distinct merchants in (t - 24 h, t]", "never"),
    Feature("country_change_flag", "flag", "1 if the country differs from the last known one", "either is unknown"),
    Feature("device_change_flag", "flag", "1 if the device differs from the last known one", "either is unknown"),
    Feature("user_merchant_first_time", "flag", "1 if the merchant isn't in the last 30 d", "never"),
    Feature("minutes_since_last_txn", "float", "minutes to the latest earlier time", "no history"),
    Feature("km_since_last_txn", "float", "great-circle distance to it", "no history, or a position is unknown"),
    Feature("speed_kmh", "float", "that distance over that time", "no distance, or no time has passed"),
    Feature("hour_of_day", "code", "0-23, UTC", "never"),
    Feature("day_of_week", "code", "Monday 0, UTC", "never"),
    Feature("is_weekend", "flag", "Saturday or Sunday, UTC", "never"),
    Feature("is_night", "flag", "00:00-05:59 UTC", "never"),
    Feature("channel", "code", "position in the schema's list of channels", "absent"),
    Feature("merchant_category", "code", "the MCC as a number", "absent"),
    Feature("merchant_txn_count_1d", "count", "the merchant's transactions, 1 d ending 7 d ago", "never"),
    Feature("merchant_txn_count_7d", "count", "the same over 7 d", "never"),
    Feature("merchant_txn_count_30d", "count", "the same over 30 d", "never"),
    Feature("merchant_fraud_rate_1d", "float", "share of known frauds among them", "the count is 0"),
    Feature("merchant_fraud_rate_7d", "float", "the same over 7 d", "the count is 0"),
    Feature("merchant_fraud_rate_30d", "float", "the same over 30 d", "the count is 0"),
)
FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
INTEGER_FEATURES = frozenset(feature.name for feature in FEATURES if feature.kind != "float")
