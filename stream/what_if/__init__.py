"""`vitalloom orders what-if`: stored readings replayed under changed orders."""
