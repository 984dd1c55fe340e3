"""The ground everything stands on: records, artefact folders, tables, statistics, errors. Imports no torch."""
