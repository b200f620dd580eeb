"""tell retrospective batches from in-sample ones; rules of promotion and settings that are kept get the names of now

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_RULES = {
    "better": "lower_error",
    "covered": "interval_coverage",
    "differ_within": "forecast_divergence",
    "sound": "no_new_fallbacks",
}
_SETTINGS = {
    "BTS_SETTLE": "BTS_FILE_STABLE_FOR",
    "BTS_HEAVY_SERIES": "BTS_STATISTICAL_MAX_SERIES",
    "BTS_DIFFERENTIAL_BOUND": "BTS_MAX_FORECAST_DIVERGENCE",
}
_COMMENT = (
    "live; retrospective: made more than a horizon after its origin; in_sample: by a model that has seen the targets"
)


def upgrade() -> None:
    op.drop_constraint(op.f("ck_batch_kind"), "batch", schema="bts")
    op.execute("""
        UPDATE bts.batch AS b SET kind = CASE
            WHEN b.kind = 'nightly' THEN 'live'
            WHEN m.training_end > b.issued_at THEN 'in_sample'
            ELSE 'retrospective' END
        FROM bts.model_version AS m WHERE m.model_version_id = b.model_version_id
    """)
    op.create_check_constraint(
        op.f("ck_batch_kind"), "batch", "kind in ('live', 'retrospective', 'in_sample')", schema="bts"
    )
    op.execute(f"COMMENT ON COLUMN bts.batch.kind IS '{_COMMENT}'")
    _rename_rules(_RULES)
    _rename_settings(_SETTINGS)


def downgrade() -> None:
    op.drop_constraint(op.f("ck_batch_kind"), "batch", schema="bts")
    op.execute("UPDATE bts.batch SET kind = CASE kind WHEN 'live' THEN 'nightly' ELSE 'hindcast' END")
    op.create_check_constraint(op.f("ck_batch_kind"), "batch", "kind in ('nightly', 'hindcast')", schema="bts")
    op.execute("COMMENT ON COLUMN bts.batch.kind IS 'nightly, or hindcast: made more than a horizon after its origin'")
    _rename_rules({new: old for old, new in _RULES.items()})
    _rename_settings({new: old for old, new in _SETTINGS.items()})


def _rename_rules(names: dict[str, str]) -> None:
    for old, new in names.items():
        op.execute(f"""
            UPDATE bts.decision SET evidence = (
                SELECT jsonb_agg(CASE WHEN r.rule ->> 'rule' = '{old}'
                                      THEN jsonb_set(r.rule, '{{rule}}', '"{new}"') ELSE r.rule END ORDER BY r.n)
                FROM jsonb_array_elements(evidence) WITH ORDINALITY AS r (rule, n))
            WHERE jsonb_typeof(evidence) = 'array' AND evidence @> '[{{"rule": "{old}"}}]'
        """)


def _rename_settings(names: dict[str, str]) -> None:
    for table in ("batch", "model_version"):
        for old, new in names.items():
            op.execute(f"""
                UPDATE bts.{table}
                SET settings = (settings - '{old}') || jsonb_build_object('{new}', settings -> '{old}')
                WHERE settings ? '{old}'
            """)
