"""The command line: one file per verb. A verb parses, then imports what it runs; help never imports torch."""
