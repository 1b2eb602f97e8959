"""The demo: delay features of the flights that left New York City in 2013."""
