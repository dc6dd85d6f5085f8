package dev.gpushopper.client;

import dev.gpushopper.v1.AcceptDatabaseRequest;
import dev.gpushopper.v1.AcceptDatabaseResponse;
import dev.gpushopper.v1.AdoptInstanceRequest;
import dev.gpushopper.v1.AdoptInstanceResponse;
import dev.gpushopper.v1.CreateTokenRequest;
import dev.gpushopper.v1.CreateTokenResponse;
import dev.gpushopper.v1.DestroyInstanceRequest;
import dev.gpushopper.v1.DestroyInstanceResponse;
import dev.gpushopper.v1.DrainSessionsRequest;
import dev.gpushopper.v1.DrainSessionsResponse;
import dev.gpushopper.v1.GetHoldRequest;
import dev.gpushopper.v1.GetHoldResponse;
import dev.gpushopper.v1.ListAuditEntriesRequest;
import dev.gpushopper.v1.ListAuditEntriesResponse;
import dev.gpushopper.v1.ListForeignInstancesRequest;
import dev.gpushopper.v1.ListForeignInstancesResponse;
import dev.gpushopper.v1.ListOfferHealthRequest;
import dev.gpushopper.v1.ListOfferHealthResponse;
import dev.gpushopper.v1.ListProvidersRequest;
import dev.gpushopper.v1.ListProvidersResponse;
import dev.gpushopper.v1.ListStrayInstancesRequest;
import dev.gpushopper.v1.ListStrayInstancesResponse;
import dev.gpushopper.v1.ListTokensRequest;
import dev.gpushopper.v1.ListTokensResponse;
import dev.gpushopper.v1.ListUnconfirmedDestroysRequest;
import dev.gpushopper.v1.ListUnconfirmedDestroysResponse;
import dev.gpushopper.v1.OperatorServiceGrpc;
import dev.gpushopper.v1.RetryDestroyRequest;
import dev.gpushopper.v1.RetryDestroyResponse;
import dev.gpushopper.v1.RevokeTokenRequest;
import dev.gpushopper.v1.RevokeTokenResponse;
import dev.gpushopper.v1.SetHoldRequest;
import dev.gpushopper.v1.SetHoldResponse;
import dev.gpushopper.v1.SettleInstanceRequest;
import dev.gpushopper.v1.SettleInstanceResponse;
import dev.gpushopper.v1.SweepNowRequest;
import dev.gpushopper.v1.SweepNowResponse;

/** What an operator looks at and orders. What only reads is repeated while the server is away; orders are not. Every method throws a {@link GpuShopperException}; the contract names the reasons. */
public final class Operators {
    private final Calls calls;

    Operators(Calls calls) {
        this.calls = calls;
    }

    /** Each provider's credentials, connection and offers. */
    public ListProvidersResponse listProviders(ListProvidersRequest request) {
        return calls.unary(OperatorServiceGrpc.getListProvidersMethod(), request);
    }

    /** Machines that should be gone and are not proven so, with what they may cost per hour and the call that ends them at their vendor. */
    public ListUnconfirmedDestroysResponse listUnconfirmedDestroys(ListUnconfirmedDestroysRequest request) {
        return calls.unary(OperatorServiceGrpc.getListUnconfirmedDestroysMethod(), request);
    }

    /** Tries one of them again at once, without waiting for its next turn. */
    public RetryDestroyResponse retryDestroy(RetryDestroyRequest request) {
        return calls.unary(OperatorServiceGrpc.getRetryDestroyMethod(), request);
    }

    /** Ends one of them by the operator's word: the last way out, when the machine is surely gone and no list can show it. */
    public SettleInstanceResponse settleInstance(SettleInstanceRequest request) {
        return calls.unary(OperatorServiceGrpc.getSettleInstanceMethod(), request);
    }

    /** Machines with a label of this deployment that no record wants: strays, which no record knows, and orphans, whose record says that they are gone and whose destroy waits for its turn or for a hold. */
    public ListStrayInstancesResponse listStrayInstances(ListStrayInstancesRequest request) {
        return calls.unary(OperatorServiceGrpc.getListStrayInstancesMethod(), request);
    }

    /** Machines on the accounts that are not of this deployment. */
    public ListForeignInstancesResponse listForeignInstances(ListForeignInstancesRequest request) {
        return calls.unary(OperatorServiceGrpc.getListForeignInstancesMethod(), request);
    }

    /** Keeps a stray: it becomes a running session of a consumer. */
    public AdoptInstanceResponse adoptInstance(AdoptInstanceRequest request) {
        return calls.unary(OperatorServiceGrpc.getAdoptInstanceMethod(), request);
    }

    /** Destroys a stray or an orphan, past holds and pace. */
    public DestroyInstanceResponse destroyInstance(DestroyInstanceRequest request) {
        return calls.unary(OperatorServiceGrpc.getDestroyInstanceMethod(), request);
    }

    /** Lists the machines of one provider or of all now, and waits until that was looked at: a minute at most. */
    public SweepNowResponse sweepNow(SweepNowRequest request) {
        return calls.unary(OperatorServiceGrpc.getSweepNowMethod(), request);
    }

    /** Sets a hold at a provider, in place of one of the same kind there, or lifts it. */
    public SetHoldResponse setHold(SetHoldRequest request) {
        return calls.unary(OperatorServiceGrpc.getSetHoldMethod(), request);
    }

    /** The holds in force, and whether the database is frozen. */
    public GetHoldResponse getHold(GetHoldRequest request) {
        return calls.unary(OperatorServiceGrpc.getGetHoldMethod(), request);
    }

    /** The database is what it should be: everything automatic goes on, with all that is overdue by it, ends and destroys included. */
    public AcceptDatabaseResponse acceptDatabase(AcceptDatabaseRequest request) {
        return calls.unary(OperatorServiceGrpc.getAcceptDatabaseMethod(), request);
    }

    /** Who ordered what, the latest first: what operators order, and what users order about sessions (a KeepAlive excepted). */
    public ListAuditEntriesResponse listAuditEntries(ListAuditEntriesRequest request) {
        return calls.unary(OperatorServiceGrpc.getListAuditEntriesMethod(), request);
    }

    /** Ends every session that is not over, with the end reason ADMIN. */
    public DrainSessionsResponse drainSessions(DrainSessionsRequest request) {
        return calls.unary(OperatorServiceGrpc.getDrainSessionsMethod(), request);
    }

    /** The failure memory: how launches went by provider, host, machine and offer, and what is set aside until when. */
    public ListOfferHealthResponse listOfferHealth(ListOfferHealthRequest request) {
        return calls.unary(OperatorServiceGrpc.getListOfferHealthMethod(), request);
    }

    /** Makes a token. */
    public CreateTokenResponse createToken(CreateTokenRequest request) {
        return calls.unary(OperatorServiceGrpc.getCreateTokenMethod(), request);
    }

    /** Every token there is or was, without its text: those of settings and files first, then by name. */
    public ListTokensResponse listTokens(ListTokensRequest request) {
        return calls.unary(OperatorServiceGrpc.getListTokensMethod(), request);
    }

    /** Ends a token at once: no call begins with it any more, and the streams that it has open are cut. */
    public RevokeTokenResponse revokeToken(RevokeTokenRequest request) {
        return calls.unary(OperatorServiceGrpc.getRevokeTokenMethod(), request);
    }
}
