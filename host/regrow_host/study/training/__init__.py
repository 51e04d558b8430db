"""`regrow study train MODEL`: train the study's models by Keras. This package alone needs tensorflow."""
