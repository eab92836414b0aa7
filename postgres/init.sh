#!/bin/sh
# Makes a role and a database for MLflow and for Airflow, and a role that only looks, for `doctor`. Safe to repeat:
# what is there stays, and a role's password becomes what .env says now.
set -eu
export PGOPTIONS="-c client_min_messages=warning" # what is there already isn't worth a word

sql() { # name; statements come by standard input
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set name="$1"
}
role() { # name, the variable that holds its password: psql reads it there, so that no command line shows it
  sql "$1" <<SQL
\\getenv password $2
SELECT format('CREATE ROLE %I LOGIN', :'name')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \\gexec
ALTER ROLE :"name" PASSWORD :'password';
SQL
  echo "role $1 is there"
}
database() { # name, its owner's too
  sql "$1" <<SQL
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
  echo "database $1 is there"
}
role mlflow POSTGRES_MLFLOW_PASSWORD
database mlflow
role airflow POSTGRES_AIRFLOW_PASSWORD
database airflow
role doctor POSTGRES_DOCTOR_PASSWORD
sql doctor <<SQL
GRANT pg_monitor TO :"name";
SQL
