"""One file per kind of result: tables for people and JSON documents for programs."""
