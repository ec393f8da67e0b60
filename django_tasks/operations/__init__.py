"""What operators do, written once for the command line and the admin: ``look`` reads, ``act`` changes."""
