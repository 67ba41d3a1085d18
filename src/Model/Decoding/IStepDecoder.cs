// The seam between decoding algorithms (greedy, beam, sampling) and whatever computes the next token's logits.
namespace IptNative.Model.Decoding;

/// <summary>A decoder with a key/value cache that is fed one token per row and step.</summary>
public interface IStepDecoder : IDisposable
{
    /// <summary>V, the width of a row of logits.</summary>
    int VocabSize { get; }

    /// <summary>Rows now alive: batch times beams.</summary>
    int Rows { get; }

    /// <summary>Feeds one token per row and computes the logits of the token after it.</summary>
    /// <param name="tokens">[Rows] token ids; the first call takes decoder_start_token_id.</param>
    /// <returns>Logits f32 [Rows, V], valid until the next call of any member.</returns>
    ReadOnlySpan<float> DecodeNext(ReadOnlySpan<int> tokens);

    /// <summary>Rearranges the cache: new row r goes on from old row <paramref name="sources"/>[r]. Rows may repeat (beams) or be left out (finished).</summary>
    /// <param name="sources">[new Rows] old row numbers.</param>
    void Reorder(ReadOnlySpan<int> sources);
}
