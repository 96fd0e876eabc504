#!/bin/sh
# A PostgreSQL user for Grafana that may only read: run once, when the database is made, by the image's entry point.
# By hand elsewhere: AFFECT_GRAFANA_PASSWORD=... POSTGRES_USER=affect POSTGRES_DB=affect sh reader.sh
set -eu
psql -v ON_ERROR_STOP=1 -v password="$AFFECT_GRAFANA_PASSWORD" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
CREATE ROLE grafana LOGIN PASSWORD :'password';
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
GRANT USAGE ON SCHEMA public TO grafana;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO grafana;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO grafana;
SQL
