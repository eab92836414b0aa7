#!/bin/sh
# Makes the buckets, and for each client of S3 a user with its policy and no more. Safe to repeat: what is there
# stays, and a user's secret becomes what .env says now.
set -eu

server=${MC_HOST_server:?the address with the root user\'s key}
echo "MinIO at ${server#*@}"
mc mb --quiet --ignore-existing server/mlflow server/lake

user() { # name, secret
  mc admin policy create server "$1" "/policies/$1.json" >/dev/null
  # By standard input: no secret in a command line.
  printf '%s\n%s\n' "$1" "$2" | mc admin user add server >/dev/null
  mc admin policy attach server "$1" --user "$1" >/dev/null 2>&1 || # attached already
    mc admin user info server "$1" | grep -q "PolicyName: .*$1"
  echo "user $1 has the policy $1"
}
user mlflow "${S3_MLFLOW_SECRET:?}"
user archive "${S3_ARCHIVE_SECRET:?}"
user retrain "${S3_RETRAIN_SECRET:?}"
user doctor "${S3_DOCTOR_SECRET:?}"

# What its client will do, done once as that client: a policy that doesn't fit shows here.
host=${server#*@}
scheme=${server%%://*}
try() { # name, secret, bucket
  export "MC_HOST_$1=$scheme://$1:$2@$host"
  echo probe | mc pipe --quiet "$1/$3/.probe" >/dev/null
  mc cat "$1/$3/.probe" >/dev/null
  mc rm --quiet "$1/$3/.probe" >/dev/null
}
try mlflow "$S3_MLFLOW_SECRET" mlflow
try archive "$S3_ARCHIVE_SECRET" lake
try retrain "$S3_RETRAIN_SECRET" lake
echo "each user reaches its bucket"
