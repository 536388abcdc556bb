"""The detector at run time: encoding, network, calibration and operating point."""
