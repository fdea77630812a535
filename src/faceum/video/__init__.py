"""Video: frames from files, cameras and streams, the tracks of people, and what is written of both."""
