"""The painter of street scenes: pictures whose every label is exact."""
