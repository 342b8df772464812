"""Training of SANE encoders: two turned views of each object, four losses."""
