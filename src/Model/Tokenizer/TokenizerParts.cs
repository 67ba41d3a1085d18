// What a loader hands to T5Tokenizer, whichever file it read. Deliberately not: any reading (TokenizerFolder, TokenizerJson).
namespace IptNative.Model.Tokenizer;

/// <summary>The checked parts of a tokenizer.</summary>
internal sealed record TokenizerParts
{
    /// <summary>File or folder, for messages.</summary>
    public required string Source { get; init; }

    public required PieceTable Pieces { get; init; }

    /// <summary>Rewrites the text before <see cref="Normalizer"/>, or null: tokenizer.json pipelines that are not plain SentencePiece.</summary>
    public Func<string, string>? Rewrite { get; init; }

    public required TextNormalizer Normalizer { get; init; }

    public required AddedTokens Added { get; init; }

    /// <summary>Id of the end of sequence; -1 where the vocabulary has none.</summary>
    public required int EosId { get; init; }

    /// <summary>Id of padding; -1 where the vocabulary has none.</summary>
    public required int PadId { get; init; }

    public string UnkSurface { get; init; } = " \u2047 ";

    /// <summary>Decoding drops a ▁ at the beginning.</summary>
    public bool StripsSpace { get; init; } = true;

    /// <summary>Decoding drops every ▁ at the beginning.</summary>
    public bool StripsAllSpace { get; init; } = true;
}
