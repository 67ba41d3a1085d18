// The words of a subspace's header. Deliberately not: what they do.
using System.Text.Json.Serialization;

namespace IptNative.Tuning.Subspaces;

/// <summary>How a subspace maps its few numbers to a prompt.</summary>
public enum SubspaceKind
{
    /// <summary>Proj and Proj_b of Intrinsic Prompt Tuning; untrained it is the random prompt subspace.</summary>
    [JsonStringEnumMemberName("autoencoder")]
    Autoencoder,

    /// <summary>A fixed random matrix.</summary>
    [JsonStringEnumMemberName("random-linear")]
    RandomLinear,

    /// <summary>A fixed random map without a stored matrix.</summary>
    [JsonStringEnumMemberName("fastfood")]
    Fastfood,

    /// <summary>The principal components of trained prompts.</summary>
    [JsonStringEnumMemberName("pca")]
    Pca,
}

/// <summary>A layer's activation.</summary>
public enum SubspaceActivation
{
    /// <summary>None.</summary>
    [JsonStringEnumMemberName("identity")]
    Identity,

    /// <summary>tanh, as in the paper.</summary>
    [JsonStringEnumMemberName("tanh")]
    Tanh,

    /// <summary>max(x, 0).</summary>
    [JsonStringEnumMemberName("relu")]
    Relu,

    /// <summary>GELU in its tanh form.</summary>
    [JsonStringEnumMemberName("gelu")]
    Gelu,
}

/// <summary>What prompts are divided by before they enter a subspace.</summary>
public enum StandardisationKind
{
    /// <summary>Nothing: as the code of IPT.</summary>
    [JsonStringEnumMemberName("none")]
    None,

    /// <summary>One number for all.</summary>
    [JsonStringEnumMemberName("global")]
    Global,

    /// <summary>Each task's own number.</summary>
    [JsonStringEnumMemberName("task")]
    Task,
}
