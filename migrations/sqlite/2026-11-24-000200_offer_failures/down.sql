DROP TABLE offer_failures;
