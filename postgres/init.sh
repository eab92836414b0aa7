#!/bin/sh
# Makes a role and a database for MLflow and for Airflow. Safe to repeat: what is there stays, and a role's
# password becomes what .env says now.
set -eu

role() { # name, the variable that holds its password: psql reads it there, so that no command line shows it
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set name="$1" <<SQL
\\getenv password $2
SELECT format('CREATE ROLE %I LOGIN', :'name')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \\gexec
ALTER ROLE :"name" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
  echo "role and database $1 are there"
}
role mlflow POSTGRES_MLFLOW_PASSWORD
role airflow POSTGRES_AIRFLOW_PASSWORD
