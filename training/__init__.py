"""How adlib's own backbone is made: pictures by formula, a student, tasks to learn, and judges.  No part of the app."""

import adlib as adlib  # before torch: it sets how threads wait
