"""What each command shows: tables for people and JSON documents."""
