"""One file per kind of result: tables for people, JSON documents for programs."""
