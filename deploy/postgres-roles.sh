#!/bin/sh
# Creates the database role of each service: it owns one schema, named like the role, and has no right beyond it. The image of
# PostgreSQL runs this once, when it creates the cluster.
#
# Reads `<service>-password` in the folder COUNTERSIGN_FILES. Passwords appear in no argument and no variable.
set -eu

for service in issuer-service trust-service; do
    COUNTERSIGN_ROLE="countersign_${service%-service}" COUNTERSIGN_PASSWORD_FILE="$COUNTERSIGN_FILES/$service-password" \
        psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
\set role `echo "$COUNTERSIGN_ROLE"`
\set password `cat "$COUNTERSIGN_PASSWORD_FILE"`
-- A statement that fails is not logged: it has the password.
SET log_min_error_statement = panic;
CREATE ROLE :"role" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
CREATE SCHEMA :"role" AUTHORIZATION :"role";
SQL
done

psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
\set database `echo "$POSTGRES_DB"`
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO countersign_issuer, countersign_trust;
SQL
