package dev.gpushopper.client;

import dev.gpushopper.v1.CostServiceGrpc;
import dev.gpushopper.v1.GetCostReportRequest;
import dev.gpushopper.v1.GetCostReportResponse;
import dev.gpushopper.v1.GetSessionCostRequest;
import dev.gpushopper.v1.GetSessionCostResponse;
import dev.gpushopper.v1.GetSpendRateRequest;
import dev.gpushopper.v1.GetSpendRateResponse;
import dev.gpushopper.v1.ListLedgerEntriesRequest;
import dev.gpushopper.v1.ListLedgerEntriesResponse;

/** What sessions cost. Every method throws a {@link GpuShopperException}; the contract names the reasons. */
public final class Costs {
    private final Calls calls;

    Costs(Calls calls) {
        this.calls = calls;
    }

    /** What one session has cost. */
    public GetSessionCostResponse getSessionCost(GetSessionCostRequest request) {
        return calls.unary(CostServiceGrpc.getGetSessionCostMethod(), request);
    }

    /** What sessions cost in a range of time, in groups. */
    public GetCostReportResponse getCostReport(GetCostReportRequest request) {
        return calls.unary(CostServiceGrpc.getGetCostReportMethod(), request);
    }

    /** The metered segments behind the reports, one by one. */
    public ListLedgerEntriesResponse listLedgerEntries(ListLedgerEntriesRequest request) {
        return calls.unary(CostServiceGrpc.getListLedgerEntriesMethod(), request);
    }

    /** What is spent per hour now, by provider and in all: what sessions use, what should be gone, what no record wants, what is not ours. */
    public GetSpendRateResponse getSpendRate(GetSpendRateRequest request) {
        return calls.unary(CostServiceGrpc.getGetSpendRateMethod(), request);
    }
}
